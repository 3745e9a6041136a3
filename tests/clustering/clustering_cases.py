"""Rows to cluster, and the slow and certain way to find the nearest centroid."""

import numpy as np

from hubert_ecg.clustering.nearest import normalise_rows


def blobs(num_rows: int, dim: int, numblobs: int, *, seed: int = 0, spread: float = 0.5) -> np.ndarray:
    """[row, dim] float32 on the unit sphere, around `numblobs` directions that share a common part."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((numblobs, dim)) + 2
    rows = middles[rng.integers(numblobs, size=num_rows)] + spread * rng.standard_normal((num_rows, dim))
    return normalise_rows(rows)


def exact_labels(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Nearest by differences in float64, one row at a time."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    return np.array([((row - centroids) ** 2).sum(axis=1).argmin() for row in rows])
