"""Training examples from tables made by hand: the right samples, the right codes, the right labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part
from hubert_ecg.training.examples import ExampleReader, select_rows
from hubert_ecg.training.targets import CodeTargets, LabelTargets

PREPROCESS = PreprocessConfig()
STARTS = [0.0, 2.5, 5.0]
TOKENS = 93
LABELS = [["AFIB"], [], ["NORM"], ["AFIB", "CRBBB"]]


def counts(part: int, row: int) -> np.ndarray:
    """[12, 1000] numbers that tell part, row, lead and time apart."""
    return (part * 8000 + row * 2000 + np.arange(12)[:, None] * 100 + np.arange(1000) % 100).astype(np.int16)


def code(part: int, row: int, crop: int) -> np.ndarray:
    return np.full(TOKENS, part * 100 + row * 10 + crop, np.uint16)


@pytest.fixture
def waveforms(tmp_path: Path) -> Manifest:
    output = begin(str(tmp_path / "w"), verb="prepare", config={}, inputs={})
    assert isinstance(output, StageOutput)
    for part in range(2):
        columns = {
            "record_id": [f"{part}-{row}" for row in range(4)],
            "split": ["train", "train", "val", "train"],
            "tags": [["natural"], [], ["natural"], None],
            "counts": tables.to_list_array([counts(part, row).reshape(-1) for row in range(4)], pa.int16()),
            "valid_samples": tables.to_fixed_list_array(np.full((4, 12), 1000), pa.int32()),
            "attended_s": pa.nulls(4, pa.list_(pa.float32())),
            "labels.conditions": pa.array(LABELS, pa.list_(pa.string())),
        }
        write_part(output.directory, part, pa.table(columns))
    return output.finish(parts=2, facts={})


@pytest.fixture
def codes(tmp_path: Path) -> Manifest:
    output = begin(str(tmp_path / "l"), verb="label", config={}, inputs={})
    assert isinstance(output, StageOutput)
    for part in range(2):
        of_rows = [np.concatenate([code(part, row, crop) for crop in range(3)]) for row in range(4)]
        columns = {
            "record_id": [f"{part}-{row}" for row in range(4)],
            "crop_starts_s": tables.to_list_array([np.array(STARTS, np.float32)] * 4, pa.float32()),
            "codes.a": tables.to_list_array(of_rows, pa.uint16()),
            "codes.b": tables.to_list_array([row + 1 for row in of_rows], pa.uint16()),
        }
        write_part(output.directory, part, pa.table(columns))
    return output.finish(parts=2, facts={})


def read(reader: ExampleReader, rows: list[tuple[int, int, int]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    table = pa.concat_tables(reader.read(np.array(rows)))
    assert table["attention_mask"].null_count == len(rows)
    return table["record_id"].to_pylist(), tables.stack_rows(table["input"]), tables.stack_rows(table["target"])


def test_the_codes_belong_to_the_crop_that_was_taken(waveforms: Manifest, codes: Manifest) -> None:
    targets = CodeTargets(codes=codes, codebooks=("a", "b"), num_tokens=TOKENS)
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=0)
    rows = [(position % 2, position % 4, position) for position in range(40)]
    ids, inputs, target = read(reader, rows)
    assert ids == [f"{part}-{row}" for part, row, _ in rows]
    seen = set()
    for (part, row, _), sample, codes_of_both in zip(rows, inputs, target, strict=True):
        crop = int(codes_of_both[0]) % 10
        seen.add(crop)
        np.testing.assert_array_equal(codes_of_both[:TOKENS], code(part, row, crop))
        np.testing.assert_array_equal(codes_of_both[TOKENS:], code(part, row, crop) + 1)
        np.testing.assert_array_equal(sample, model_input(counts(part, row), STARTS[crop], PREPROCESS))
    assert seen == {0, 1, 2}
    again = read(reader, rows)
    np.testing.assert_array_equal(inputs, again[1])


def test_labels_keep_their_order_and_crops_start_anywhere(waveforms: Manifest) -> None:
    targets = LabelTargets(label_set="conditions", labels=("NORM", "AFIB", "CRBBB"))
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=0)
    _, inputs, target = read(reader, [(0, row, position) for position in range(10) for row in range(4)])
    wanted = [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]] * 10
    np.testing.assert_array_equal(target, wanted)
    first_samples = {float(sample[0]) for sample in inputs[0::4]}
    assert len(first_samples) > 5
    validation = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=0, fixed_crop=True)
    _, fixed, _ = read(validation, [(0, 0, 1), (0, 0, 2)])
    np.testing.assert_array_equal(fixed[0], fixed[1])


def test_shuffled_labels_are_exchanged_among_the_chosen_rows_only(waveforms: Manifest) -> None:
    targets = LabelTargets(label_set="conditions", labels=("NORM", "AFIB", "CRBBB"))
    among = tuple(select_rows(waveforms, split="train"))
    changed = 0
    for seed in range(8):
        reader = ExampleReader(
            waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=seed, shuffled_among=among
        )
        _, _, target = read(reader, [(0, row, row) for row in range(4)])
        assert sorted(map(tuple, target[[0, 1, 3]].tolist())) == [(0, 0, 0), (0, 1, 0), (0, 1, 1)]
        np.testing.assert_array_equal(target[2], [1, 0, 0])
        changed += not np.array_equal(target[[0, 1, 3]], [[0, 1, 0], [0, 0, 0], [0, 1, 1]])
    assert changed >= 4


def test_rows_are_selected_by_split_label_and_tag(waveforms: Manifest) -> None:
    assert [rows.tolist() for rows in select_rows(waveforms, split="train")] == [[0, 1, 3]] * 2
    assert [rows.tolist() for rows in select_rows(waveforms, split="train", label_set="conditions")] == [[0, 3]] * 2
    assert [rows.tolist() for rows in select_rows(waveforms, split="train", tag="natural")] == [[0]] * 2
    assert [rows.tolist() for rows in select_rows(waveforms, split="test")] == [[]] * 2


def test_codes_of_other_recordings_are_refused(waveforms: Manifest, codes: Manifest) -> None:
    shifted = pa.table({"record_id": ["x"] * 4} | {n: [None] * 4 for n in ("crop_starts_s", "codes.a")})
    write_part(codes.directory, 0, shifted)
    targets = CodeTargets(codes=codes, codebooks=("a",), num_tokens=TOKENS)
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=0)
    with pytest.raises(ArtifactError, match="run jobs.label again on these waveforms"):
        read(reader, [(0, 0, 0)])


@pytest.mark.parametrize(
    ("task", "answer", "wanted"),
    [
        ("multi_label", ["B", "other"], [0.0, 1.0]),
        ("multi_label", None, [0.0, 0.0]),
        ("multi_class", ["B"], [1]),
        ("regression", [61.5, float("nan")], [61.5, np.nan]),
        ("regression", None, [np.nan, np.nan]),
    ],
)
def test_targets_by_task(task: str, answer: list | None, wanted: list) -> None:
    target = LabelTargets(label_set="s", labels=("A", "B"), task=task).target(answer, "r1")  # type: ignore[arg-type]
    np.testing.assert_array_equal(target, wanted)
    assert target.dtype == (np.int64 if task == "multi_class" else np.float32)


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        ("multi_class", [], "r1: wanted exactly one class of s, got none"),
        ("multi_class", ["A", "B"], r"got \['A', 'B'\]"),
        ("regression", [1.0], "r1: wanted 2 numbers of s, got 1"),
    ],
)
def test_answers_that_do_not_fit_the_task_are_refused(task: str, answer: list, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        LabelTargets(label_set="s", labels=("A", "B"), task=task).target(answer, "r1")  # type: ignore[arg-type]
