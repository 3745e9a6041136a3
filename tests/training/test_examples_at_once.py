"""Examples that are made many at a time are those that are made one at a time."""

from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.training.examples import MASK, ExampleReader, example_table
from hubert_ecg.training.targets import CodeTargets, LabelTargets
from tests.training.padded import PARTS, PREPROCESS, ROWS, TOKENS, write_codes, write_waveforms


@pytest.mark.parametrize("rows", [(0,), tuple(range(ROWS))])  # row 0 is recorded throughout, others need masks
@pytest.mark.parametrize("kind", ["codes", "labels"])
def test_many_at_a_time_equal_one_at_a_time(tmp_path: Path, rows: tuple[int, ...], kind: str) -> None:
    waveforms = write_waveforms(tmp_path / "w")
    targets: CodeTargets | LabelTargets = LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"))
    if kind == "codes":
        codes = write_codes(tmp_path / "l", waveforms)
        targets = CodeTargets(codes=codes, codebooks=("a", "b"), num_tokens=TOKENS)
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=3)
    drawn = np.random.default_rng(0)
    places = [(int(drawn.integers(PARTS)), int(drawn.choice(rows)), position) for position in range(40)]
    (at_once,) = reader.read(np.array(places))
    shards = {part: reader.open(part) for part in range(PARTS)}
    one_by_one = example_table([reader.example(shards[part], row, position) for part, row, position in places])
    assert at_once.equals(one_by_one)
    assert (at_once[MASK].null_count == len(places)) == (rows == (0,))
