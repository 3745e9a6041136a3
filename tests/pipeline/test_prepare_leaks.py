"""A patient, or one signal under two names, in two splits of a prepared table: found, refused, or dropped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubert_ecg.datasets.duplicates import content_hash, signature
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import InputError
from hubert_ecg.pipeline.prepare_leaks import settle_leaks
from hubert_ecg.pipeline.prepare_shard import to_table
from hubert_ecg.pipeline.prepare_summary import summarise
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, write_part

PREPROCESS = PreprocessConfig()
Rows = list[dict[str, Any]]


def signal(seed: int) -> np.ndarray:
    """[12, 1000] counts of a random walk: no two seeds look alike."""
    walk = np.random.default_rng(seed).normal(size=(12, 1000)).cumsum(axis=1)
    return np.rint(walk / np.abs(walk).max(axis=1, keepdims=True) * 16000).astype(np.int16)


def row(record_id: str, split: str, counts: np.ndarray, patient_id: str | None = None) -> dict[str, Any]:
    return {
        "record_id": record_id,
        "patient_id": patient_id,
        "age_years": None,
        "sex": None,
        "split": split,
        "fold": None,
        "tags": ["ward"],
        "source_rate_hz": 500.0,
        "counts": counts.reshape(-1),
        "offset_mv": np.zeros(12, np.float32),
        "gain_mv": np.ones(12, np.float32),
        "valid_samples": np.full(12, counts.shape[1], np.int32),
        "attended_s": None,
        "findings": [],
        "content_hash": content_hash(counts),
        "signature": signature(counts).tobytes(),
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[[list[Rows]], Manifest]:
    """Writes shards as prepare does before its manifest."""

    def write(shards: list[Rows]) -> Manifest:
        for part, rows in enumerate(shards):
            table = to_table(rows, {})
            splits = {split: [r["split"] for r in rows].count(split) for split in {r["split"] for r in rows}}
            facts = {
                "listed": len(rows),
                "set_aside": [],
                "splits": splits,
                "tags": {"ward": len(rows)},
                "seconds": 0.1,
            }
            write_part(str(tmp_path), part, table, summary=summarise(table, {}, PREPROCESS), **facts)
        described: dict[str, Any] = {"verb": "prepare", "config": {}, "inputs": {}, "fingerprint": "", "rows": 0}
        return Manifest(directory=str(tmp_path), parts=len(shards), **described)

    return write


def kept(waveforms: Manifest) -> dict[str, str]:
    tables_ = [files.read_table(waveforms.part(part), ["record_id", "split"]) for part in range(waveforms.parts)]
    return {r["record_id"]: r["split"] for table in tables_ for r in table.to_pylist()}


def shards_with_leaks() -> list[Rows]:
    """Copy of a test signal in training (bit by bit), a noisy copy of a validation signal, a patient in all splits."""
    noisy = signal(2) + np.random.default_rng(9).integers(-150, 150, (12, 1000)).astype(np.int16)
    return [
        [row("a", "train", signal(1)), row("b", "val", signal(2)), row("c", "train", signal(3), "p")],
        [row("a2", "test", signal(1)), row("b2", "train", noisy), row("d", "val", signal(4), "p")],
        [row("e", "test", signal(5), "p"), row("f", "test", signal(6), "q"), row("g", "test", signal(6), "q")],
    ]


def test_a_clean_table_has_nothing_to_settle(written: Callable[[list[Rows]], Manifest]) -> None:
    clean = [[row("a", "train", signal(1), "p"), row("b", "test", signal(2), "q")]]
    assert settle_leaks(written(clean), "error", {}, PREPROCESS) == []


def test_error_names_the_pairs_and_what_to_do(written: Callable[[list[Rows]], Manifest]) -> None:
    with pytest.raises(InputError, match=r"a and a2 \(hash 1\.000\).*--leaks drop"):
        settle_leaks(written(shards_with_leaks()), "error", {}, PREPROCESS)


def test_drop_leaves_the_most_protected_copy_and_says_so(written: Callable[[list[Rows]], Manifest]) -> None:
    waveforms = written(shards_with_leaks())
    found = settle_leaks(waveforms, "drop", {}, PREPROCESS)
    assert {(pair["first"], pair["second"], pair["kind"]) for pair in found} == {
        ("a", "a2", "hash"),
        ("b", "b2", "correlation"),
        ("c", "d", "patient"),
        ("c", "e", "patient"),
    }
    assert kept(waveforms) == {"a2": "test", "b": "val", "e": "test", "f": "test", "g": "test"}
    receipts = waveforms.receipts()
    assert [receipt["rows"] for receipt in receipts] == [1, 1, 3]
    assert [receipt["splits"] for receipt in receipts] == [{"val": 1}, {"test": 1}, {"test": 3}]
    assert {entry["record_id"] for receipt in receipts for entry in receipt["set_aside"]} == {"a", "b2", "c", "d"}
    assert settle_leaks(waveforms, "error", {}, PREPROCESS) == []


def test_keep_reports_and_changes_nothing(written: Callable[[list[Rows]], Manifest]) -> None:
    waveforms = written(shards_with_leaks())
    assert len(settle_leaks(waveforms, "keep", {}, PREPROCESS)) == 4
    assert len(kept(waveforms)) == 9


def test_a_shard_whose_recordings_were_all_set_aside_is_no_obstacle(
    written: Callable[[list[Rows]], Manifest],
) -> None:
    waveforms = written([[row("a", "train", signal(1), "p")], [], [row("b", "test", signal(2), "p")], []])
    [found] = settle_leaks(waveforms, "keep", {}, PREPROCESS)
    assert (found["first"], found["second"], found["kind"]) == ("a", "b", "patient")
