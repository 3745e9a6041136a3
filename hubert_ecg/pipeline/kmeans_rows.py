"""The rows of a feature table as Ray tasks see them: drawn by number, or passed over shard by shard, never held whole.

Rows are numbered over all shards, counting only those that are used: recorded tokens whose numbers are finite. So a
draw by number gives the same rows however the table is cut into shards.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.clustering.codebook import Normalisation, normalise_with
from hubert_ecg.clustering.nearest import Finder
from hubert_ecg.clustering.sums import PartialSums, block_sums
from hubert_ecg.pipeline.ray_cluster import available, remote
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest

log = logging.getLogger(__name__)

ROWS_PER_BLOCK = 16_384
"""Rows that a pass normalises and assigns at a time; a few MB."""
SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where the rows are, how many each shard has, and how they are normalised. Small: it travels with every task."""

    features: Manifest
    """The feature table."""
    counts: np.ndarray
    """[part] int64: rows of each shard that are used."""
    not_finite: dict[str, int]
    """Recordings with rows that were recorded but are not finite -> how many; those rows are not used."""
    normalisation: Normalisation
    mean: np.ndarray | None = None
    """[column] float32, for `standardise`."""
    std: np.ndarray | None = None
    """[column] float32, for `standardise`."""

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def dim(self) -> int:
        return int(self.features.facts["dim"])

    @property
    def offsets(self) -> np.ndarray:
        """[part + 1] int64: number of the first row of each shard."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def normalise(self, rows: np.ndarray) -> np.ndarray:
        return normalise_with(rows, self.normalisation, self.mean, self.std)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The rows of one shard that are used, in order."""

    rows: np.ndarray
    """[row, column] float32, as they were stored."""
    recordings: np.ndarray
    """[row] int64: row of the shard's table, that is the recording and crop, that each came from."""
    not_finite: dict[int, int]
    """Row of the table -> tokens left out because they are not finite."""


def read_shard(features: Manifest, part: int) -> Shard:
    """One shard, without the tokens that were not recorded and those that are not finite."""
    table = files.read_table(features.part(part), ["features", "token_mask"])
    dim = features.facts["dim"]
    rows = tables.stack_rows(table["features"]).reshape(-1, dim)
    tokens = table["features"].type.list_size // dim
    used = _recorded(table["token_mask"], tokens)
    # A sum is finite only if all its summands are, and takes no memory; an overflow is told apart below.
    with np.errstate(all="ignore"):
        suspicious = not np.isfinite(rows.sum())
    not_finite: dict[int, int] = {}
    if suspicious:
        finite = np.isfinite(rows).all(axis=1)
        bad = ~finite if used is None else ~finite & used
        which, how_many = np.unique(np.flatnonzero(bad) // tokens, return_counts=True)
        not_finite = dict(zip(which.tolist(), how_many.tolist(), strict=True))
        used = finite if used is None else finite & used
    recordings = np.repeat(np.arange(table.num_rows), tokens)
    if used is None or used.all():
        return Shard(rows=rows, recordings=recordings, not_finite=not_finite)
    return Shard(rows=rows[used], recordings=recordings[used], not_finite=not_finite)


def _recorded(column: pa.ChunkedArray, tokens: int) -> np.ndarray | None:
    """[recording * token] bool: which tokens were recorded; none where all were."""
    if column.null_count == len(column):
        return None
    recorded = np.ones((len(column), tokens), bool)
    known = np.flatnonzero(column.is_valid().to_numpy())
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    recorded[known] = values.reshape(len(known), tokens)
    return recorded.reshape(-1)


def scan(
    features: Manifest, normalisation: Normalisation, *, mean: np.ndarray | None = None, std: np.ndarray | None = None
) -> Rows:
    """Count the rows that are used, find those that are not finite, and for `standardise` take their moments.

    Unless `mean` and `std` [column] are given, as they are by a codebook.
    """
    moments = normalisation == "standardise" and mean is None
    results = list(
        run_tasks(
            "counting rows",
            _scan,
            [(features, span, moments) for span in spans(features.parts, tasks_per_cpu=4)],
        )
    )
    counts = np.concatenate([found["counts"] for found in results])
    not_finite: dict[str, int] = {}
    for found in results:
        for record_id, number in found["not_finite"].items():
            not_finite[record_id] = not_finite.get(record_id, 0) + number
    rows = Rows(
        features=features, counts=counts, not_finite=not_finite, normalisation=normalisation, mean=mean, std=std
    )
    if not moments or rows.total == 0:
        return rows
    mean = sum(found["sum"] for found in results) / rows.total
    square = sum(found["square"] for found in results) / rows.total
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return replace(rows, mean=np.asarray(mean, np.float32), std=np.asarray(std, np.float32))


def _scan(features: Manifest, span: range, moments: bool) -> dict[str, Any]:
    dim = features.facts["dim"]
    found: dict[str, Any] = {"sum": np.zeros(dim), "square": np.zeros(dim), "not_finite": {}}
    counts = []
    for part in span:
        shard = read_shard(features, part)
        counts.append(len(shard.rows))
        if shard.not_finite:
            ids = files.read_table(features.part(part), ["record_id"])["record_id"]
            for row, number in shard.not_finite.items():
                record_id = ids[row].as_py()
                found["not_finite"][record_id] = found["not_finite"].get(record_id, 0) + number
        for start in range(0, len(shard.rows) if moments else 0, ROWS_PER_BLOCK):
            block = shard.rows[start : start + ROWS_PER_BLOCK].astype(np.float64)
            found["sum"] += block.sum(axis=0)
            found["square"] += (block**2).sum(axis=0)
    return found | {"counts": np.array(counts, np.int64)}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Some lists of row numbers, read in one pass: blocks in Ray's shared memory, one per run of shards."""

    blocks: list[Any]
    """References to [row, column] float32, normalised: the rows of list 0 that lie in the run, then of list 1, ..."""
    cuts: list[np.ndarray]
    """Per block [list + 1]: where each list starts in it."""


def draw(rows: Rows, places: Callable[[], Iterable[np.ndarray]], what: str) -> Drawn:
    """Read the rows whose numbers `places` gives, lists of ascending int64, all in one pass over the shards.

    Each task asks `places` for itself, so that numbers need not travel. One task per CPU, holding one shard and its
    share of the rows.
    """
    arguments = [(rows, span, places) for span in spans(rows.features.parts, tasks_per_cpu=1)]
    # The second result is asked for, the first stays where it was made.
    pairs = [remote(_draw, num_returns=2).remote(*each) for each in arguments]
    cuts = list(_with_progress(what, [cut for _, cut in pairs], lambda cut: int(cut[-1])))
    return Drawn(blocks=[block for block, _ in pairs], cuts=cuts)


def _draw(rows: Rows, span: range, places: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = rows.offsets
    first, last = offsets[span.start], offsets[span.stop]
    lists = [wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, last)] for wanted in places()]
    cuts = np.concatenate([[0], np.cumsum([len(wanted) for wanted in lists])]).astype(np.int64)
    numbers = np.concatenate(lists)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers, offsets[span.start : span.stop + 1], sorter=order)
    drawn = np.empty((len(numbers), rows.dim), np.float32)
    for part, low, high in zip(span, bounds[:-1], bounds[1:], strict=True):
        if high > low:
            at = order[low:high]
            drawn[at] = rows.normalise(read_shard(rows.features, part).rows[numbers[at] - offsets[part]])
    return drawn, cuts


def listed(number: int, cuts: list[np.ndarray], blocks: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """The rows of one list of a draw, piece by piece in ascending order of their numbers."""
    return [block[cut[number] : cut[number + 1]] for cut, block in zip(cuts, blocks, strict=True)]


def all_sums(rows: Rows, centroids: list[np.ndarray], what: str) -> list[PartialSums]:
    """Sums of all rows under the nearest of each set of centroids [cluster, column] float32, in one pass."""
    import ray

    shared = ray.put(centroids)
    arguments = [(rows, span, shared) for span in spans(rows.features.parts, tasks_per_cpu=4)]
    totals: list[PartialSums] | None = None
    for found in run_tasks(what, sums_of_shards, arguments, size=lambda found: int(found[0].counts.sum())):
        totals = found if totals is None else [a + b for a, b in zip(totals, found, strict=True)]
    assert totals is not None
    return totals


def sums_of_shards(rows: Rows, span: range, centroids: list[np.ndarray]) -> list[PartialSums]:
    """The share of one task in such a pass, with one shard in memory at a time."""
    finders = [Finder.of(each) for each in centroids]
    totals = [_nothing(each) for each in centroids]
    for part in span:
        shard = read_shard(rows.features, part).rows
        for start in range(0, len(shard), ROWS_PER_BLOCK):
            block = rows.normalise(shard[start : start + ROWS_PER_BLOCK])
            totals = [total + block_sums(block, finder) for total, finder in zip(totals, finders, strict=True)]
    return totals


def _nothing(centroids: np.ndarray) -> PartialSums:
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids), np.int64)
    return PartialSums(sums=sums, counts=counts, square_norm=0.0)


def spans(parts: int, *, tasks_per_cpu: int) -> list[range]:
    """Runs of neighbouring shards, one per task: a task reads its shards one after the other."""
    tasks = min(parts, tasks_per_cpu * max(1, available("CPU")))
    edges = np.linspace(0, parts, tasks + 1).astype(int).tolist()
    return [range(low, high) for low, high in pairwise(edges)]


def run_tasks(
    what: str, work: Callable[..., Any], arguments: list[tuple[Any, ...]], *, size: Callable[[Any], int] | None = None
) -> Iterator[Any]:
    """Results of one Ray task per set of arguments, in their order, with a line every few seconds."""
    yield from _with_progress(what, [remote(work).remote(*each) for each in arguments], size)


def _with_progress(what: str, references: list[Any], size: Callable[[Any], int] | None) -> Iterator[Any]:
    import ray

    start = last = time.monotonic()
    seen = 0
    for done, reference in enumerate(references, start=1):
        result = ray.get(reference)
        seen += size(result) if size else 0
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            rate = f", {seen / (now - start):,.0f} rows/s" if size else ""
            log.info("cluster: %s, %d/%d runs of shards%s", what, done, len(references), rate)
            last = now
        yield result
