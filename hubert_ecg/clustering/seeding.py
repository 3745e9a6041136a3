"""Where k-means starts: k-means++ and k-means|| centroids drawn from rows in memory."""

from typing import Literal

import numpy as np

from hubert_ecg.clustering.nearest import nearest, squared_distances
from hubert_ecg.errors import InputError

Seeding = Literal["k-means++", "k-means||"]

PARALLEL_ROUNDS = 5
"""Rounds of k-means||; five suffice in Bahmani et al. 2012, table 6."""


def draw_seeds(rows: np.ndarray, num_clusters: int, *, seeding: Seeding, rng: np.random.Generator) -> np.ndarray:
    """[cluster, column] float32: one draw of starting centroids, each a row of `rows` [row, column].

    Raises InputError when there are fewer rows than clusters.
    """
    if len(rows) < num_clusters:
        raise InputError(f"k-means: wanted at least {num_clusters} rows for as many clusters, got {len(rows)}")
    rows = rows.astype(np.float32, copy=False)
    if seeding == "k-means++":
        return rows[plus_plus(rows, np.ones(len(rows), np.float32), num_clusters, rng)]
    candidates = _oversample(rows, num_clusters, rng)
    if len(candidates) <= num_clusters:
        rest = np.setdiff1d(np.arange(len(rows)), candidates)
        more = rng.choice(rest, num_clusters - len(candidates), replace=False)
        return rows[np.concatenate([candidates, more])]
    weights = np.bincount(nearest(rows, rows[candidates]), minlength=len(candidates)).astype(np.float32)
    return rows[candidates[plus_plus(rows[candidates], weights, num_clusters, rng)]]


def plus_plus(rows: np.ndarray, weights: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """[cluster] int64: rows chosen by greedy k-means++ (Arthur and Vassilvitskii 2007); of a few rows drawn by
    weighted squared distance, the best is kept.

    rows [row, column] float32 that count as `weights` [row] rows each. As sklearn.cluster.kmeans_plusplus, but in
    float32 throughout, which is several times faster for wide rows.
    """
    num_trials = 2 + int(np.log(num_clusters))
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    norms = np.einsum("nd,nd->n", centred, centred)
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = _pick(np.cumsum(weights, dtype=np.float64), rng.random(1))[0]
    closest = np.maximum(norms + norms[chosen[0]] - 2 * (centred @ centred[chosen[0]]), 0)
    for cluster in range(1, num_clusters):
        closest[chosen[:cluster]] = 0
        trials = _pick(np.cumsum(closest * weights, dtype=np.float64), rng.random(num_trials))
        distances = norms[:, None] + norms[trials] - 2 * (centred @ centred[trials].T)
        np.clip(distances, 0, closest[:, None], out=distances)
        best = int((weights @ distances).argmin())
        chosen[cluster], closest = trials[best], distances[:, best].copy()
    return chosen


def _oversample(rows: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """[candidate] int64, ascending: rows taken in a few rounds, each by chance in proportion to its squared distance.

    About twice as many per round as there are clusters, so that all rounds together can stand for all rows
    (k-means||, Bahmani et al. 2012).
    """
    taken = rng.integers(len(rows), size=1)
    newest, closest = taken, np.full(len(rows), np.inf, np.float32)
    for _ in range(PARALLEL_ROUNDS):
        centroids = rows[newest]
        closest = np.minimum(closest, squared_distances(rows, centroids, nearest(rows, centroids)))
        total = closest.sum(dtype=np.float64)
        if total == 0:
            break
        newest = np.flatnonzero(rng.random(len(rows)) < 2 * num_clusters * (closest / total))
        if len(newest) == 0:
            break
        taken = np.union1d(taken, newest)
    return taken


def _pick(reach: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Places [draw] drawn in proportion to the steps of `reach` [row], a running sum, by `draws` in [0, 1)."""
    # With no distance left, all rows being copies of the chosen ones, any row is as good as another.
    places = np.searchsorted(reach, draws * reach[-1], side="right") if reach[-1] > 0 else draws * len(reach)
    return np.minimum(places, len(reach) - 1).astype(np.int64)
