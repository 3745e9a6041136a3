"""The last look at a waveform table: a patient, or one signal under two names, must not stand in two splits."""

import logging
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.datasets.duplicates import HASH_BYTES, SIGNATURE_BYTES, Pair, find_duplicates
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import InputError
from hubert_ecg.pipeline.prepare_summary import summarise
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards, write_part

log = logging.getLogger(__name__)

LeakPolicy = Literal["error", "drop", "keep"]

_COLUMNS = ["record_id", "patient_id", "split", "content_hash", "signature"]
_WIDTHS = {"content_hash": HASH_BYTES, "signature": SIGNATURE_BYTES}
_NOBODY = 0
_PARTS_BETWEEN = 64
"""Shards between two times that memory which Arrow has read into is given back."""
_KEEP_FIRST = ("test", "val", "train")
"""Of copies in several splits the one in the first of these stays: a test set must not shrink for training's sake."""


def settle_leaks(
    waveforms: Shards, policy: LeakPolicy, label_tasks: Mapping[str, str], preprocess: PreprocessConfig
) -> list[dict[str, Any]]:
    """Find what stands in two splits and do as the policy says; returns what was found, one entry per pair.

    `drop` rewrites the shards concerned; doing it again finds nothing. Raises InputError under `error`.
    """
    known = _Known.of(waveforms)
    pairs = _same_signal(known) + _same_patient(known)
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
        _drop(waveforms, _losers(known, pairs), label_tasks, preprocess)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """What is compared of all recordings, N of them: about 130 bytes for each, and no Python object, of which ten
    million recordings would make gigabytes."""

    record_ids: pa.LargeStringArray
    """[N]"""
    patients: np.ndarray
    """[N] int32 from 0 on, the same for one patient; -1 where nobody is named."""
    splits: np.ndarray
    """[N] int8, place in `_KEEP_FIRST`."""
    hashes: np.ndarray
    """[N, 16] uint8."""
    signatures: np.ndarray
    """[N, 64] int8."""

    @classmethod
    def of(cls, waveforms: Shards) -> "_Known":
        ends = np.cumsum([receipt["rows"] for receipt in waveforms.receipts()])
        hashes, signatures = np.empty((ends[-1], HASH_BYTES), np.uint8), np.empty((ends[-1], SIGNATURE_BYTES), np.uint8)
        splits, patients, ids = np.empty(ends[-1], np.int8), np.empty(ends[-1], np.uint64), _Texts()
        for part, end in enumerate(ends.tolist()):
            table = files.read_table(waveforms.part(part), _COLUMNS)
            rows = slice(end - table.num_rows, end)
            splits[rows] = pc.index_in(table["split"], pa.array(_KEEP_FIRST)).to_numpy()
            hashes[rows], signatures[rows] = (_bytes(table[name], width) for name, width in _WIDTHS.items())
            ids.add(table["record_id"])
            patients[rows] = [_short_hash(patient.as_py()) for patient in table["patient_id"]]
            if part % _PARTS_BETWEEN == 0:
                pa.default_memory_pool().release_unused()
        numbers = np.unique(patients, return_inverse=True)[1].astype(np.int32)
        numbers[patients == _NOBODY] = -1
        return cls(
            record_ids=ids.array(),
            patients=numbers,
            splits=splits,
            hashes=hashes,
            signatures=signatures.view(np.int8),
        )

    def split_range(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last split that each patient stands in, [patient] int8."""
        named = self.patients >= 0
        count = int(self.patients.max(initial=-1)) + 1
        first, last = np.full(count, len(_KEEP_FIRST), np.int8), np.full(count, -1, np.int8)
        np.minimum.at(first, self.patients[named], self.splits[named])
        np.maximum.at(last, self.patients[named], self.splits[named])
        return first, last


def _short_hash(patient: str | None) -> int:
    """64 bits in place of a name. That two of ten million are given the same has a chance of three in a million."""
    return _NOBODY if patient is None else int.from_bytes(blake2b(patient.encode(), digest_size=8).digest())


def _bytes(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """[row, byte] uint8 of a binary column whose values are all of one width."""
    values = column.combine_chunks()
    if not len(values):
        return np.empty((0, width), np.uint8)
    return np.frombuffer(values.buffers()[2], np.uint8, len(values) * width, values.offset * width).reshape(-1, width)


class _Texts:
    """A column of strings that grows in one piece: thousands of small ones would keep the pages between them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.offsets = array("q", [0])

    def add(self, column: pa.ChunkedArray) -> None:
        for text in column:
            self.data += text.as_py().encode()
            self.offsets.append(len(self.data))

    def array(self) -> pa.LargeStringArray:
        buffers = (pa.py_buffer(self.offsets), pa.py_buffer(self.data))
        return pa.LargeStringArray.from_buffers(len(self.offsets) - 1, *buffers)


def _same_signal(known: _Known) -> list[Pair]:
    return find_duplicates(known.record_ids, known.splits, known.hashes, known.signatures)


def _same_patient(known: _Known) -> list[Pair]:
    """One pair per patient that stands in several splits: its first recordings in two of them."""
    first, last = known.split_range()
    torn = np.flatnonzero(np.isin(known.patients, np.flatnonzero(first < last)))
    places: dict[int, dict[int, int]] = {}
    for row in torn.tolist():
        places.setdefault(int(known.patients[row]), {}).setdefault(int(known.splits[row]), row)
    return [
        Pair(first=str(known.record_ids[rows[0]]), second=str(known.record_ids[other]), kind="patient", value=1.0)
        for rows in map(list, map(dict.values, places.values()))
        for other in rows[1:]
    ]


def _losers(known: _Known, pairs: list[Pair]) -> set[str]:
    """Record ids to leave out: of two copies the one in the less protected split, and of a patient in several splits
    every recording outside of the most protected one."""
    first, _ = known.split_range()
    named = np.flatnonzero(known.patients >= 0)
    outside = named[known.splits[named] > first[known.patients[named]]]
    copies = [pair for pair in pairs if pair.kind != "patient"]
    involved = pa.array(sorted({name for pair in copies for name in (pair.first, pair.second)}), pa.large_string())
    rows = np.flatnonzero(pc.is_in(known.record_ids, involved).to_numpy(zero_copy_only=False))
    rank = {str(known.record_ids[row]): int(known.splits[row]) for row in rows.tolist()}
    losers = {max((pair.first, pair.second), key=rank.__getitem__) for pair in copies}
    return losers | set(known.record_ids.take(pa.array(outside)).to_pylist())


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
