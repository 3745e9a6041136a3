"""The same signal under two names in two splits: found by hash when it is bit by bit the same, else by correlation.

A signature is a random projection of the signal, so that correlations of signatures are those of the signals but for a
relative error of their angle near 1/sqrt(2 * 64) (Johnson and Lindenstrauss). Candidates share the signs of some
projections (Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002), so that a million
recordings are compared without comparing all pairs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

SIGNATURE_BYTES = 64
SAME_SIGNAL = 0.99
"""Correlation from which two recordings are one. Copies at 100 and 500 Hz, with other gains and offsets or with noise
at 20 dB have 0.994 and more; of the 11.8 million pairs of 4,860 distinct recordings of PTB-XL none exceeds 0.86, the
346 pairs of one person included."""
HASH_BYTES = 16
_INDEPENDENT_LEADS = (0, 1, 6, 7, 8, 9, 10, 11)
"""I, II and V1 to V6: the other four limb leads follow from I and II."""
_NUM_BINS = 500
_FLAT_COUNTS = 1e-3
"""Less than this is no signal: counts are whole numbers."""
_TABLES = 16
_LARGEST_STEP = 48
"""Neighbours in the order of a table that are compared: more only in crowds of recordings that look alike."""
_FEWEST_BITS, _MOST_BITS = 6, 24
_AT_ONCE = 1 << 13


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two recordings that ought not to stand in two splits."""

    first: str
    second: str
    """Record ids, in the order of the listing."""
    kind: Literal["hash", "correlation", "patient"]
    """What they share: every sample; the signal up to rate, gain, offset and noise; the person."""
    value: float
    """Correlation of their signatures; 1 for hashes and patients."""


def content_hash(counts: np.ndarray) -> bytes:
    """16 bytes that stand for [12, time] int16 counts, sample by sample."""
    digest = hashlib.blake2b(str(counts.shape).encode(), digest_size=HASH_BYTES)
    digest.update(np.ascontiguousarray(counts, np.int16).data)
    return digest.digest()


def signature(counts: np.ndarray) -> np.ndarray:
    """[12, time] counts -> [64] int8 that hardly change with sampling rate, gain and offset of a lead, and noise.

    The whole recording counts: a copy that starts or ends elsewhere has another signature. All zero when all is flat.
    """
    leads = _binned(counts[list(_INDEPENDENT_LEADS)])
    leads -= leads.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(leads, axis=1, keepdims=True)
    # What rounding leaves of a flat lead is not its shape.
    shapes = np.divide(leads, norms, out=np.zeros_like(leads), where=norms > _FLAT_COUNTS)
    projected = _projection() @ shapes.reshape(-1)
    largest = np.abs(projected).max()
    if largest == 0:
        return np.zeros(SIGNATURE_BYTES, np.int8)
    return np.rint(projected * (127 / largest)).astype(np.int8)


def find_duplicates(
    record_ids: Sequence[Any],
    splits: np.ndarray,
    hashes: np.ndarray,
    signatures: np.ndarray,
    *,
    threshold: float = SAME_SIGNAL,
) -> list[Pair]:
    """Pairs of recordings in different splits that hold one signal.

    `record_ids`: strings, or an Arrow column of them. `splits` [recording] whole numbers, one for each split. `hashes`
    [recording, 16] uint8, `signatures` [recording, 64] int8.

    Of several equal recordings each is paired with one in every other split. Flat recordings are never duplicates.
    Candidates are drawn by a hash: of correlations at 0.99 some 98 % are found, of those from 0.995 on nearly all.
    Takes time near-linear in the recordings (10 s for a million) and about 200 bytes for each.
    """
    codes = splits.astype(np.int32)
    alive = np.flatnonzero(signatures.any(axis=1))
    found = dict.fromkeys(_same_hash(np.ascontiguousarray(hashes).view(f"S{HASH_BYTES}")[:, 0], codes, alive), 1.0)
    kinds = dict.fromkeys(found, "hash")
    for pair, value in _correlated(signatures, codes, alive, threshold).items():
        if pair not in found:
            found[pair], kinds[pair] = value, "correlation"
    return [
        Pair(first=str(record_ids[a]), second=str(record_ids[b]), kind=kinds[a, b], value=found[a, b])  # type: ignore[arg-type]
        for a, b in sorted(found)
    ]


def _binned(leads: np.ndarray) -> np.ndarray:
    """[lead, time] -> [lead, bin] means over equal spans of time, float64, whatever the sampling rate.

    A sample stands for the span around its moment, a bin for the span around its own; what lies beyond the first and
    last sample is taken to be like them.
    """
    num_samples = leads.shape[1]
    sums = np.concatenate([np.zeros((len(leads), 1)), np.cumsum(leads, axis=1, dtype=np.float64)], axis=1)
    edges = (np.arange(_NUM_BINS + 1) - 0.5) * (num_samples / _NUM_BINS) + 0.5
    whole = np.clip(edges.astype(np.int64), 0, num_samples - 1)
    at_edges = sums[:, whole] + (edges - whole) * leads[:, whole]
    return np.asarray(np.diff(at_edges, axis=1) * (_NUM_BINS / num_samples))


@lru_cache(maxsize=1)
def _projection() -> np.ndarray:
    """[64, lead * bin] of -1 and 1, the same everywhere and for ever: tables of different runs are comparable."""
    num_columns = len(_INDEPENDENT_LEADS) * _NUM_BINS
    stream = hashlib.shake_256(b"hubert-ecg signature 1").digest(SIGNATURE_BYTES * num_columns // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(SIGNATURE_BYTES, num_columns)
    return bits * 2.0 - 1.0


def _same_hash(hashes: np.ndarray, splits: np.ndarray, alive: np.ndarray) -> set[tuple[int, int]]:
    """Each recording with the first equal one of every other split."""
    order = alive[np.argsort(hashes[alive], kind="stable")]
    starts = np.flatnonzero(np.concatenate([[True], hashes[order][1:] != hashes[order][:-1], [True]]))
    pairs = set()
    for start, end in zip(starts[:-1][np.diff(starts) > 1], starts[1:][np.diff(starts) > 1], strict=True):
        members = order[start:end].tolist()
        first_of: dict[int, int] = {}
        for member in members:
            first_of.setdefault(int(splits[member]), member)
        for member in members:
            for split, first in first_of.items():
                if split != splits[member]:
                    pairs.add((min(member, first), max(member, first)))
    return pairs


def _correlated(
    signatures: np.ndarray, splits: np.ndarray, alive: np.ndarray, threshold: float
) -> dict[tuple[int, int], float]:
    """Pairs (lower row first) in different splits whose signatures correlate at the threshold or above."""
    found: dict[tuple[int, int], float] = {}
    if len(alive) < 2:
        return found
    num_bits = int(np.clip(np.log2(len(alive)), _FEWEST_BITS, _MOST_BITS))
    rng = np.random.default_rng(0)
    for _ in range(_TABLES):
        codes = _sign_codes(signatures, alive, rng.permutation(SIGNATURE_BYTES))
        by_code = np.argsort(codes, kind="stable")
        order, keys = alive[by_code], codes[by_code] >> np.uint64(64 - num_bits)
        for step in range(1, min(_LARGEST_STEP, len(order) - 1) + 1):
            near = np.flatnonzero(keys[step:] == keys[:-step])
            if len(near) == 0:
                break
            left, right = order[near], order[near + step]
            apart = splits[left] != splits[right]
            _keep_similar(signatures, left[apart], right[apart], threshold, found)
    return found


def _sign_codes(signatures: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[row] uint64 whose bits, from the highest on, are the signs of these columns."""
    codes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), _AT_ONCE):
        signs = signatures[rows[start : start + _AT_ONCE]][:, columns] > 0
        codes[start : start + _AT_ONCE] = np.ascontiguousarray(np.packbits(signs, axis=1)).view(">u8")[:, 0]
    return codes


def _keep_similar(
    signatures: np.ndarray, left: np.ndarray, right: np.ndarray, threshold: float, found: dict[tuple[int, int], float]
) -> None:
    for start in range(0, len(left), _AT_ONCE):
        a, b = left[start : start + _AT_ONCE], right[start : start + _AT_ONCE]
        x, y = signatures[a].astype(np.float32), signatures[b].astype(np.float32)
        scale = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
        values = np.einsum("ij,ij->i", x, y) / scale
        for place in np.flatnonzero(values >= threshold).tolist():
            first, second = sorted((int(a[place]), int(b[place])))
            found[first, second] = min(1.0, float(values[place]))
