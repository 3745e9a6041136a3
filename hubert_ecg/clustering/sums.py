"""What a block of rows contributes to new centroids, in sums that are the same to the last bit however rows are cut.

Two things make it so: near-ties are decided in float64, not by the rounding of a matrix product whose shape the cutting
changes (see nearest.py), and sums are exact because every summand is rounded to a multiple of one power of two.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hubert_ecg.clustering.nearest import Finder
from hubert_ecg.errors import InputError

SUM_BITS = 28
"""Summands keep this many bits below the largest centroid coordinate: an error of 4e-9 of it per row, and sums that
stay exact up to 2^25 rows of that size per centroid."""

SUM_BYTES = 1 << 20
"""Size of one block of rows in float64; it should stay in a core's second-level cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialSums:
    """What a block of rows contributes to an update; adding two gives that of both blocks."""

    sums: np.ndarray
    """[cluster, column] float64: sum of the rows assigned to each centroid."""
    counts: np.ndarray
    """[cluster] int64: how many those are."""
    square_norm: float
    """Sum of squares of all coordinates of all rows."""

    def __add__(self, other: "PartialSums") -> "PartialSums":
        return PartialSums(
            sums=self.sums + other.sums,
            counts=self.counts + other.counts,
            square_norm=self.square_norm + other.square_norm,
        )

    def inertia(self, centroids: np.ndarray) -> float:
        """Sum of squared distances of the rows to `centroids`, those they were assigned to."""
        centroids = centroids.astype(np.float64, copy=False)
        cross = np.vdot(centroids, self.sums)
        own = self.counts @ np.einsum("kd,kd->k", centroids, centroids)
        return max(0.0, float(self.square_norm - 2 * cross + own))

    def means(self) -> np.ndarray:
        """[cluster, column] float64: mean of each cluster's rows; zero for a cluster without any."""
        return np.asarray(self.sums / np.maximum(self.counts, 1)[:, None])


def partial_sums(rows: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> PartialSums:
    """Reduce rows with their labels to what an update needs; `centroids` are those the labels came from.

    Every coordinate is rounded to a multiple of one power of two, 2^-28 of the largest centroid coordinate, so that
    float64 sums of them are exact and their order does not matter.
    """
    num_clusters, dim = centroids.shape
    largest = np.abs(centroids).max()
    norms = np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64)
    shift, norm_shift = _rounding_shift(float(largest)), _rounding_shift(float(norms.max()))
    sums, square_norm = np.zeros((num_clusters, dim)), 0.0
    # Each block costs a pass over the sums as well, so it should hold a few rows for every cluster.
    step = max(64, SUM_BYTES // (8 * dim), 4 * num_clusters)
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        square_norm += float(((np.einsum("nd,nd->n", block, block) + norm_shift) - norm_shift).sum())
        block += shift
        block -= shift
        size = len(block)
        columns = (np.ones(size), labels[start : start + step], np.arange(size + 1))
        sums += np.asarray(sparse.csc_array(columns, shape=(num_clusters, size)) @ block)
    return PartialSums(sums=sums, counts=np.bincount(labels, minlength=num_clusters), square_norm=square_norm)


def block_sums(rows: np.ndarray, centroids: np.ndarray | Finder) -> PartialSums:
    """Assign and reduce in one go: the work of one block of rows. A Finder saves time where there are many blocks."""
    return labelled_sums(rows, centroids if isinstance(centroids, Finder) else Finder.of(centroids))[0]


def labelled_sums(rows: np.ndarray, finder: Finder) -> tuple[PartialSums, np.ndarray]:
    """As `block_sums`, with the labels [row] int64 that the rows were given."""
    labels = finder.nearest(rows)
    return partial_sums(rows, labels, finder.centroids), labels


def distance_sums(rows: np.ndarray, labels: np.ndarray, means: np.ndarray, *, largest: float) -> np.ndarray:
    """[cluster] float64: sum of the distances (not squared) of each cluster's rows to its mean in `means`.

    Exact in the same way: distances are rounded to 2^-28 of `largest`, some length of their order that does not depend
    on the cutting.
    """
    shift = _rounding_shift(largest)
    squares = np.empty(len(rows))
    step = max(64, SUM_BYTES // (8 * rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = rows[part] - means[labels[part]]
        squares[part] = np.einsum("nd,nd->n", difference, difference)
    rounded = (np.sqrt(squares) + shift) - shift
    return np.bincount(labels, weights=rounded, minlength=len(means))


def merge(parts: Iterable[PartialSums]) -> PartialSums:
    """The contribution of all blocks together, in whatever order they come. Raises InputError when there is none."""
    total: PartialSums | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise InputError("k-means: wanted at least one block of rows, got none")
    return total


def _rounding_shift(largest: float) -> float:
    """Adding and subtracting this rounds a float64 to a multiple of 2^-SUM_BITS of the power of two above `largest`."""
    exponent = int(np.ceil(np.log2(largest))) if largest > 0 else 0
    return 1.5 * 2.0 ** (52 - SUM_BITS + exponent)
