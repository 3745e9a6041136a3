"""Nearest centroid of each row, right in every near-tie, whatever block of rows it is worked out in."""

from dataclasses import dataclass
from typing import Self

import numpy as np

SCORE_BYTES = 1 << 20
"""Size of one block of row-to-centroid scores; it should stay in a core's second-level cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finder:
    """Centroids made ready to be compared with many blocks of rows. Make it with `of`."""

    centroids: np.ndarray
    """[cluster, column] float32."""
    weights: np.ndarray
    """[column, cluster] float32: the centroids less their mean."""
    bias: np.ndarray
    """[cluster] float32: what is taken off a row's product with the weights to make its score."""
    rounding: float
    """Bound on the rounding error of the difference of two scores of a row, per unit of the row's length,"""
    rounding_of_bias: float
    """and that of what does not depend on the row."""

    @classmethod
    def of(cls, centroids: np.ndarray) -> Self:
        """[cluster, column] of any float type."""
        centroids = centroids.astype(np.float32, copy=False)
        # Distances do not change when both are shifted; smaller centroids mean smaller rounding errors, at no cost per
        # row.
        middle = centroids.mean(axis=0, dtype=np.float64)
        shifted = centroids - middle
        norms = np.einsum("kd,kd->k", shifted, shifted)
        bias = shifted @ middle + norms / 2
        eps = float(np.finfo(np.float32).eps)
        return cls(
            centroids=centroids,
            weights=np.ascontiguousarray(shifted.T, np.float32),
            bias=bias.astype(np.float32),
            rounding=eps * 2 * float(np.sqrt(centroids.shape[1]) * np.sqrt(norms.max())),
            rounding_of_bias=eps * 2 * float(np.abs(bias).max()),
        )

    def nearest(self, rows: np.ndarray) -> np.ndarray:
        """[row, column] float32, finite -> [row] int64: the nearest centroid of each row, the first among equals.

        One matrix product in float32 finds the candidates. Where several are within its rounding error of the best,
        their distances are worked out in float64.
        """
        rows = rows.astype(np.float32, copy=False)
        num_clusters = len(self.centroids)
        labels = np.empty(len(rows), np.int64)
        step = max(64, SCORE_BYTES // (4 * num_clusters))
        scores = np.empty((min(step, len(rows)), num_clusters), np.float32)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            score = np.matmul(block, self.weights, out=scores[: len(block)])
            score -= self.bias
            best = score.argmax(axis=1)
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
            errors = (self.rounding * lengths + self.rounding_of_bias).astype(np.float32)
            at = np.arange(len(block))
            close = score >= (score[at, best] - errors)[:, None]
            if np.count_nonzero(close) > len(block):
                self._settle_close_calls(block, close, best)
            labels[start : start + step] = best
        return labels

    def _settle_close_calls(self, rows: np.ndarray, close: np.ndarray, best: np.ndarray) -> None:
        """Overwrite `best` [row] with the nearest in float64 where `close` [row, cluster] marks several."""
        rivals = close.copy()
        rivals[np.arange(len(rows)), best] = False
        contested = np.unique(np.flatnonzero(rivals) // rivals.shape[1])
        row, cluster = np.nonzero(close[contested])
        differences = rows[contested[row]].astype(np.float64) - self.centroids[cluster].astype(np.float64)
        distances = np.einsum("nd,nd->n", differences, differences)
        order = np.lexsort((cluster, distances, row))
        first = np.unique(row[order], return_index=True)[1]
        best[contested] = cluster[order][first]


def normalise_rows(rows: np.ndarray) -> np.ndarray:
    """Each row to unit length, zero rows left zero, as sklearn's Normalizer. [..., column] -> same shape, float32."""
    rows = rows.astype(np.float32, copy=False)
    norms = np.sqrt(np.einsum("...d,...d->...", rows, rows))
    return rows / np.where(norms > 0, norms, np.float32(1))[..., None]


def nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """[row, column], [cluster, column] -> [row] int64; see Finder.nearest, which saves time for many blocks."""
    return Finder.of(centroids).nearest(rows)


def squared_distances(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[row] float32: squared distance of each row to the centroid of its label."""
    distances = np.empty(len(rows), np.float32)
    centroids = centroids.astype(np.float32, copy=False)
    step = max(64, SCORE_BYTES // (4 * rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = rows[part] - centroids[labels[part]]
        distances[part] = np.einsum("nd,nd->n", difference, difference)
    return distances


def assign(rows: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each row and the squared distance to it: ([row] int64, [row] float32)."""
    labels = nearest(rows, centroids)
    return labels, squared_distances(rows, centroids, labels)
