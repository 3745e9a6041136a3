"""A share of the labels: whole patients, nested, the same however the table is cut, another with another seed."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part
from hubert_ecg.training.label_share import labelled_share

PATIENTS = ["a", "a", "a", "b", "c", None, "c", "d", None, "e"] * 10
"""Of 100 recordings; ids are made different in every ten, so that there are 50 patients and 20 without an id."""


def table_of(place: Path, cuts: Sequence[int]) -> Manifest:
    output = begin(str(place), verb="prepare", config={}, inputs={})
    assert isinstance(output, StageOutput)
    owners = [None if name is None else f"{name}{row // 10}" for row, name in enumerate(PATIENTS)]
    bounds = [0, *cuts, len(owners)]
    for part, (first, stop) in enumerate(pairwise(bounds)):
        ids = [f"r{row}" for row in range(first, stop)]
        columns = {"record_id": ids, "patient_id": pa.array(owners[first:stop], pa.string())}
        write_part(output.directory, part, pa.table(columns))
    return output.finish(parts=len(bounds) - 1, facts={})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return table_of(tmp_path_factory.mktemp("w") / "w", cuts=(13, 13, 58))


def all_rows(table: Manifest) -> tuple[np.ndarray, ...]:
    return tuple(np.arange(len(files.read_table(table.part(p), ["record_id"]))) for p in range(table.parts))


def drawn(table: Manifest, fraction: float, seed: int, selected: tuple[np.ndarray, ...] | None = None) -> set[str]:
    share = labelled_share(table, all_rows(table) if selected is None else selected, fraction, seed)
    ids = [files.read_table(table.part(p), ["record_id"])["record_id"].to_pylist() for p in range(table.parts)]
    return {ids[part][row] for part, rows in enumerate(share) for row in rows.tolist()}


def owner_of(record_id: str) -> str:
    row = int(record_id[1:])
    return record_id if PATIENTS[row] is None else f"{PATIENTS[row]}{row // 10}"


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.77])
def test_share_holds_whole_patients_and_as_many_recordings_as_asked(table: Manifest, fraction: float) -> None:
    ids = drawn(table, fraction, seed=1)
    owners = {owner_of(name) for name in ids}
    assert ids == {f"r{row}" for row in range(100) if owner_of(f"r{row}") in owners}
    # The last patient drawn may bring two more recordings than asked for.
    assert round(fraction * 100) <= len(ids) <= round(fraction * 100) + 2


def test_smaller_share_of_a_seed_lies_within_a_larger_one(table: Manifest) -> None:
    shares = [drawn(table, fraction, seed=4) for fraction in (0.001, 0.1, 0.2, 0.5, 0.9, 1.0)]
    assert all(small < large for small, large in pairwise(shares))
    assert len({owner_of(name) for name in shares[0]}) == 1
    assert len(shares[-1]) == 100


def test_other_seed_draws_other_patients(table: Manifest) -> None:
    first, second = drawn(table, 0.1, seed=0), drawn(table, 0.1, seed=1)
    assert first != second
    assert first == drawn(table, 0.1, seed=0)


def test_every_recording_is_as_likely(table: Manifest) -> None:
    counts = dict.fromkeys((f"r{row}" for row in range(100)), 0)
    for seed in range(400):
        for name in drawn(table, 0.2, seed):
            counts[name] += 1
    # Binomial of 400 draws at 0.2, a little more for the last patient: six standard deviations are 48.
    assert min(counts.values()) > 80 - 48
    assert max(counts.values()) < 88 + 48


def test_draw_does_not_depend_on_how_the_table_is_cut(table: Manifest, tmp_path: Path) -> None:
    other = table_of(tmp_path / "w", cuts=(40, 41, 99))
    assert drawn(table, 0.3, seed=2) == drawn(other, 0.3, seed=2)


def test_only_selected_recordings_are_drawn_and_counted(table: Manifest) -> None:
    selected = tuple(rows[rows % 2 == 0] for rows in all_rows(table))
    chosen = drawn(table, 1.0, seed=0, selected=selected)
    half = drawn(table, 0.5, seed=0, selected=selected)
    assert half < chosen
    assert len(chosen) / 2 <= len(half) <= len(chosen) / 2 + 2
