"""The last look at a waveform table: a patient, or one signal under two names, must not stand in two splits."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.datasets.duplicates import Pair, find_duplicates
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import InputError
from hubert_ecg.pipeline.prepare_summary import summarise
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards, write_part

log = logging.getLogger(__name__)

LeakPolicy = Literal["error", "drop", "keep"]

_COLUMNS = ["record_id", "patient_id", "split", "content_hash", "signature"]
_KEEP_FIRST = ("test", "val", "train")
"""Of copies in several splits the one in the first of these stays: a test set must not shrink for training's sake."""


def settle_leaks(
    waveforms: Shards, policy: LeakPolicy, label_tasks: Mapping[str, str], preprocess: PreprocessConfig
) -> list[dict[str, Any]]:
    """Find what stands in two splits and do as the policy says; returns what was found, one entry per pair.

    `drop` rewrites the shards concerned; doing it again finds nothing. Raises InputError under `error`.
    """
    table = pa.concat_tables(files.read_table(waveforms.part(part), _COLUMNS) for part in range(waveforms.parts))
    pairs = _same_signal(table) + _same_patient(table)
    if not pairs:
        return []
    found = [
        {"first": pair.first, "second": pair.second, "kind": pair.kind, "value": round(float(pair.value), 4)}
        for pair in pairs
    ]
    if policy == "error":
        shown = "; ".join(f"{pair.first} and {pair.second} ({pair.kind} {pair.value:.3f})" for pair in pairs[:5])
        raise InputError(
            f"{waveforms.directory}: wanted no patient and no signal in two splits, got {len(pairs)} pairs: {shown}"
            f"{'; ...' if len(pairs) > 5 else ''}; scores would be too good. Mend the splits, or choose another "
            "--output with --leaks drop (copies outside of the test split are left out) or --leaks keep"
        )
    log.warning("prepare: %d pairs of recordings stand in two splits; --leaks %s", len(pairs), policy)
    if policy == "drop":
        _drop(waveforms, _losers(table, pairs), label_tasks, preprocess)
    return found


def _same_signal(table: pa.Table) -> list[Pair]:
    signatures = np.stack([np.frombuffer(row, np.int8) for row in table["signature"].to_pylist()])
    return find_duplicates(
        table["record_id"].to_pylist(), table["split"].to_pylist(), table["content_hash"].to_pylist(), signatures
    )


def _same_patient(table: pa.Table) -> list[Pair]:
    """One pair per patient that stands in several splits: its first recordings in two of them."""
    firsts = (
        table.select(["patient_id", "split", "record_id"])
        .filter(pc.is_valid(table["patient_id"]))
        .group_by(["patient_id", "split"], use_threads=False)
        .aggregate([("record_id", "first")])
    )
    by_patient: dict[str, list[str]] = {}
    for patient, record in zip(firsts["patient_id"].to_pylist(), firsts["record_id_first"].to_pylist(), strict=True):
        by_patient.setdefault(patient, []).append(record)
    return [
        Pair(first=records[0], second=other, kind="patient", value=1.0)
        for records in by_patient.values()
        for other in records[1:]
    ]


def _losers(table: pa.Table, pairs: list[Pair]) -> set[str]:
    """Record ids to leave out: of two copies the one in the less protected split, and of a patient in several splits
    every recording outside of the most protected one."""
    record_ids, patients = table["record_id"].to_pylist(), table["patient_id"].to_pylist()
    ranks = [_KEEP_FIRST.index(split) for split in table["split"].to_pylist()]
    rank_of_record = dict(zip(record_ids, ranks, strict=True))
    best_rank: dict[str, int] = {}
    for patient, rank in zip(patients, ranks, strict=True):
        if patient is not None:
            best_rank[patient] = min(rank, best_rank.get(patient, rank))
    outside = {
        record
        for record, patient, rank in zip(record_ids, patients, ranks, strict=True)
        if patient is not None and rank > best_rank[patient]
    }
    copies = [pair for pair in pairs if pair.kind != "patient"]
    return outside | {max((pair.first, pair.second), key=rank_of_record.__getitem__) for pair in copies}


def _drop(waveforms: Shards, losers: set[str], label_tasks: Mapping[str, str], preprocess: PreprocessConfig) -> None:
    for part, receipt in enumerate(waveforms.receipts()):
        table = files.read_table(waveforms.part(part))
        lost = pc.is_in(table["record_id"], pa.array(sorted(losers), pa.string()))
        if not pc.any(lost).as_py():
            continue
        kept = table.filter(pc.invert(lost))
        reasons = [
            {
                "record_id": record,
                "reason": "in two splits",
                "detail": f"{record}: stands in a more protected split too",
            }
            for record in table.filter(lost)["record_id"].to_pylist()
        ]
        facts = {name: value for name, value in receipt.items() if name not in ("part", "rows", "sha256")}
        facts |= {
            "set_aside": receipt["set_aside"] + reasons,
            "splits": _counts(kept["split"]),
            "tags": _counts(pc.list_flatten(kept["tags"])),
            "summary": summarise(kept, label_tasks, preprocess),
        }
        write_part(waveforms.directory, part, kept, **facts)


def _counts(column: Any) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
