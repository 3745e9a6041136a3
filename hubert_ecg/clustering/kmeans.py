"""Mini-batch k-means as pure steps that give the same result however the rows are cut into shards.

One step is: assign each block of rows to its nearest centroid, reduce the block to PartialSums, merge those of all
blocks, update the state. Two things make the outcome independent of the cutting, to the last bit: near-ties are decided
in float64, not by the rounding of a matrix product whose shape the cutting changes, and sums are exact because every
summand is rounded to a multiple of one power of two (see `partial_sums`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from hubert_ecg.errors import ConfigError, InputError

SCORE_BYTES = 1 << 20
"""Size of one block of row-to-centroid scores; it should stay in a core's second-level cache."""

SUM_BITS = 28
"""Summands keep this many bits below the largest centroid coordinate: an error of 4e-9 of it per row, and sums that
stay exact up to 2^25 rows of that size per centroid."""


@dataclass(frozen=True, kw_only=True)
class KMeansConfig:
    """How centroids are fitted."""

    batch_size: int = 16_384
    """Rows per mini-batch step."""
    max_steps: int = 300
    """Mini-batch steps at most."""
    lloyd_passes: int = 2
    """Full passes over all rows after the mini-batches, each moving every centroid to the mean of its rows."""
    n_init: int = 1
    """k-means++ seedings to choose the best from."""
    seeding_rows: int = 50_000
    """Rows in the sample that the seeding is drawn from."""
    max_no_improvement: int | None = 20
    """Stop after this many steps without a new low of the smoothed inertia; none: never stop early."""
    smoothing_steps: int = 20
    """Window of the moving average of the inertia, in steps."""
    reassignment_ratio: float = 0.01
    """Centroids with fewer rows than this share of the largest one's are moved to rows far from theirs; 0: never."""
    seed: int = 0
    """Of the seeding, the batches and the moves."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "n_init", "seeding_rows", "smoothing_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: wanted at least 1, got {getattr(self, name)}")
        for name in ("max_steps", "lloyd_passes", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: wanted at least 0, got {getattr(self, name)}")
        if self.max_no_improvement is not None and self.max_no_improvement < 1:
            raise ConfigError(f"max_no_improvement: wanted at least 1 or none, got {self.max_no_improvement}")
        if not 0 <= self.reassignment_ratio < 1:
            raise ConfigError(f"reassignment_ratio: wanted 0 to below 1, got {self.reassignment_ratio}")

    def batch_rng(self, step: int) -> np.random.Generator:
        """Draws the rows of mini-batch `step`."""
        return np.random.default_rng([self.seed, 1, step])

    def move_rng(self, step: int) -> np.random.Generator:
        """Draws the rows that dead centroids move to after `step`."""
        return np.random.default_rng([self.seed, 2, step])


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


@dataclass(frozen=True, kw_only=True, eq=False)
class KMeansState:
    """Centroids under way, and what it takes to go on from them."""

    centroids: np.ndarray
    """[cluster, column] float64."""
    counts: np.ndarray
    """[cluster] int64: rows that each centroid is the running mean of."""
    step: int = 0
    """Mini-batch steps done."""
    rows_since_move: int = 0
    """Rows seen since dead centroids were last looked for."""
    smoothed_inertia: float | None = None
    """Moving average of the inertia per row; the first batch does not count, since it only measures the seeding."""
    best_inertia: float | None = None
    """Lowest value it has had."""
    steps_without_improvement: int = 0
    """Steps since then."""

    @classmethod
    def start(cls, centroids: np.ndarray) -> "KMeansState":
        return cls(centroids=centroids.astype(np.float64), counts=np.zeros(len(centroids), np.int64))

    def finished(self, config: KMeansConfig) -> bool:
        """Whether mini-batch steps have reached their number or stopped helping."""
        stalled = config.max_no_improvement is not None and self.steps_without_improvement >= config.max_no_improvement
        return stalled or self.step >= config.max_steps


def normalise_rows(rows: np.ndarray) -> np.ndarray:
    """Each row to unit length, zero rows left zero, as sklearn's Normalizer. [..., column] -> same shape, float32."""
    rows = rows.astype(np.float32, copy=False)
    norms = np.sqrt(np.einsum("...d,...d->...", rows, rows))
    return rows / np.where(norms > 0, norms, np.float32(1))[..., None]


def nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """[row, column] float32, finite -> [row] int64: the nearest centroid of each row, the first among equals.

    One matrix product in float32 finds the candidates. Where several are within its rounding error of the best, their
    distances are worked out in float64.
    """
    rows = rows.astype(np.float32, copy=False)
    centroids = centroids.astype(np.float32, copy=False)
    # Distances do not change when both are shifted; smaller centroids mean smaller rounding errors, at no cost per row.
    middle = centroids.mean(axis=0, dtype=np.float64)
    shifted = centroids - middle
    norms = np.einsum("kd,kd->k", shifted, shifted)
    bias = shifted @ middle + norms / 2
    weights = np.ascontiguousarray(shifted.T, np.float32)
    bias_f32 = bias.astype(np.float32)
    rounding = np.finfo(np.float32).eps * (2 * np.sqrt(rows.shape[1]) * np.sqrt(norms.max()))
    rounding_of_bias = np.finfo(np.float32).eps * 2 * np.abs(bias).max()

    labels = np.empty(len(rows), np.int64)
    step = max(64, SCORE_BYTES // (4 * len(centroids)))
    scores = np.empty((min(step, len(rows)), len(centroids)), np.float32)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        score = np.matmul(block, weights, out=scores[: len(block)])
        score -= bias_f32
        best = score.argmax(axis=1)
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        threshold = score[np.arange(len(block)), best] - (rounding * lengths + rounding_of_bias).astype(np.float32)
        close = score >= threshold[:, None]
        if np.count_nonzero(close) > len(block):
            _settle_close_calls(block, centroids, close, best)
        labels[start : start + step] = best
    return labels


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
    step = max(64, SCORE_BYTES // (8 * dim))
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        square_norm += float(((np.einsum("nd,nd->n", block, block) + norm_shift) - norm_shift).sum())
        block += shift
        block -= shift
        size = len(block)
        columns = (np.ones(size), labels[start : start + step], np.arange(size + 1))
        sums += np.asarray(sparse.csc_array(columns, shape=(num_clusters, size)) @ block)
    return PartialSums(sums=sums, counts=np.bincount(labels, minlength=num_clusters), square_norm=square_norm)


def block_sums(rows: np.ndarray, centroids: np.ndarray) -> PartialSums:
    """Assign and reduce in one go: the work of one shard in a pass over all rows."""
    return partial_sums(rows, nearest(rows, centroids), centroids)


def merge(parts: Iterable[PartialSums]) -> PartialSums:
    """The contribution of all blocks together, in whatever order they come. Raises InputError when there is none."""
    total: PartialSums | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise InputError("k-means: wanted at least one block of rows, got none")
    return total


def kmeans_plus_plus(rows: np.ndarray, num_clusters: int, *, seed: int, n_init: int = 1) -> np.ndarray:
    """[cluster, column] float32: k-means++ centroids drawn from `rows`, the best of `n_init` draws by inertia.

    Raises InputError when there are fewer rows than clusters.
    """
    if len(rows) < num_clusters:
        raise InputError(f"k-means: wanted at least {num_clusters} rows for as many clusters, got {len(rows)}")
    rows = rows.astype(np.float32, copy=False)
    draws = [_draw_seeds(rows, num_clusters, child) for child in np.random.default_rng(seed).spawn(n_init)]
    if n_init == 1:
        return draws[0]
    return min(draws, key=lambda centroids: block_sums(rows, centroids).inertia(centroids))


def _draw_seeds(rows: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): of a few rows drawn by squared distance, keep the best.

    As sklearn.cluster.kmeans_plusplus, but in float32 throughout, which is several times faster for wide rows.
    """
    num_trials = 2 + int(np.log(num_clusters))
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    norms = np.einsum("nd,nd->n", centred, centred)
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = rng.integers(len(rows))
    closest = np.maximum(norms + norms[chosen[0]] - 2 * (centred @ centred[chosen[0]]), 0)
    for cluster in range(1, num_clusters):
        closest[chosen[:cluster]] = 0
        reach = np.cumsum(closest, dtype=np.float64)
        # With no distance left, all rows being copies of the chosen ones, any row is as good as another.
        draws = rng.random(num_trials)
        trials = np.searchsorted(reach, draws * reach[-1], side="right") if reach[-1] > 0 else draws * len(rows)
        trials = np.minimum(trials, len(rows) - 1).astype(np.int64)
        distances = norms[:, None] + norms[trials] - 2 * (centred @ centred[trials].T)
        np.clip(distances, 0, closest[:, None], out=distances)
        best = int(distances.sum(axis=0, dtype=np.float64).argmin())
        chosen[cluster], closest = trials[best], distances[:, best].copy()
    return rows[chosen]


def minibatch_update(state: KMeansState, batch: PartialSums, config: KMeansConfig) -> KMeansState:
    """Move each centroid to the running mean of all rows it has been given (Sculley 2010), as sklearn's partial_fit."""
    counts = state.counts + batch.counts
    total = state.centroids * state.counts[:, None] + batch.sums
    centroids = np.where(batch.counts[:, None] > 0, total / np.maximum(counts, 1)[:, None], state.centroids)
    num_rows = int(batch.counts.sum())
    moved = replace(
        state,
        centroids=centroids,
        counts=counts,
        step=state.step + 1,
        rows_since_move=state.rows_since_move + num_rows,
    )
    if state.step == 0 or num_rows == 0:
        return moved
    inertia = batch.inertia(_as_assigned(state.centroids)) / num_rows
    weight = 2 / (config.smoothing_steps + 1)
    before = state.smoothed_inertia
    smoothed = inertia if before is None else before * (1 - weight) + inertia * weight
    if state.best_inertia is None or smoothed < state.best_inertia:
        return replace(moved, smoothed_inertia=smoothed, best_inertia=smoothed, steps_without_improvement=0)
    stalled = state.steps_without_improvement + 1
    return replace(moved, smoothed_inertia=smoothed, steps_without_improvement=stalled)


def lloyd_update(state: KMeansState, everything: PartialSums) -> KMeansState:
    """Move each centroid to the mean of its rows in a full pass; one without rows stays."""
    filled = everything.counts > 0
    means = everything.sums / np.maximum(everything.counts, 1)[:, None]
    return replace(state, centroids=np.where(filled[:, None], means, state.centroids), counts=everything.counts)


def reseed_dead(
    state: KMeansState, rows: np.ndarray, distances: np.ndarray, *, ratio: float, rng: np.random.Generator
) -> KMeansState:
    """Move centroids with fewer than `ratio` of the largest one's rows to rows far from theirs.

    rows [row, column] with their squared distances [row]: candidates, drawn in proportion to distance as k-means++
    does, so that a lone outlier does not win every time. At most half of the rows are used. A moved centroid starts
    with the smallest count of those that stay, so that its next rows move it further without its being dead again.
    """
    counts = state.counts
    dead = np.flatnonzero(counts < max(1.0, ratio * counts.max()))
    candidates = np.flatnonzero(distances > 0)
    dead = dead[np.argsort(counts[dead], kind="stable")][: min(len(candidates), len(rows) // 2)]
    state = replace(state, rows_since_move=0)
    if len(dead) == 0 or len(dead) == len(counts):
        return state
    weights = distances[candidates].astype(np.float64)
    chosen = rng.choice(candidates, size=len(dead), replace=False, p=weights / weights.sum())
    centroids, new_counts = state.centroids.copy(), counts.copy()
    centroids[dead] = rows[chosen]
    new_counts[dead] = np.delete(counts, dead).min()
    return replace(state, centroids=centroids, counts=new_counts)


def minibatch_step(state: KMeansState, rows: np.ndarray, config: KMeansConfig) -> KMeansState:
    """One whole step on the rows of a batch: assign, update, and now and then move dead centroids."""
    centroids = _as_assigned(state.centroids)
    labels = nearest(rows, centroids)
    state = minibatch_update(state, partial_sums(rows, labels, centroids), config)
    # As often as scikit-learn does: every ten rows per cluster.
    if config.reassignment_ratio > 0 and state.rows_since_move >= 10 * len(state.centroids):
        distances = squared_distances(rows, centroids, labels)
        rng = config.move_rng(state.step)
        state = reseed_dead(state, rows, distances, ratio=config.reassignment_ratio, rng=rng)
    return state


def fit(rows: np.ndarray, num_clusters: int, config: KMeansConfig) -> tuple[KMeansState, float]:
    """k-means of rows in memory, already normalised: the serial form of what shards do together.

    Returns the state and the inertia of all rows. Batches are drawn with replacement.
    """
    sample = np.random.default_rng([config.seed, 0]).permutation(len(rows))[: max(config.seeding_rows, num_clusters)]
    seeds = kmeans_plus_plus(rows[np.sort(sample)], num_clusters, seed=config.seed, n_init=config.n_init)
    state = KMeansState.start(seeds)
    while not state.finished(config):
        places = config.batch_rng(state.step).integers(len(rows), size=config.batch_size)
        state = minibatch_step(state, rows[np.sort(places)], config)
    for _ in range(config.lloyd_passes):
        state = lloyd_update(state, block_sums(rows, state.centroids))
    everything = block_sums(rows, state.centroids)
    return replace(state, counts=everything.counts), everything.inertia(_as_assigned(state.centroids))


def _as_assigned(centroids: np.ndarray) -> np.ndarray:
    """Centroids as `nearest` and a codebook see them: float32."""
    return centroids.astype(np.float32)


def _rounding_shift(largest: float) -> float:
    """Adding and subtracting this rounds a float64 to a multiple of 2^-SUM_BITS of the power of two above `largest`."""
    exponent = int(np.ceil(np.log2(largest))) if largest > 0 else 0
    return 1.5 * 2.0 ** (52 - SUM_BITS + exponent)


def _settle_close_calls(rows: np.ndarray, centroids: np.ndarray, close: np.ndarray, best: np.ndarray) -> None:
    """Overwrite `best` [row] with the nearest centroid in float64 where `close` [row, cluster] marks several."""
    contested = np.flatnonzero(close.sum(axis=1) > 1)
    row, cluster = np.nonzero(close[contested])
    differences = rows[contested[row]].astype(np.float64) - centroids[cluster].astype(np.float64)
    distances = np.einsum("nd,nd->n", differences, differences)
    order = np.lexsort((cluster, distances, row))
    first = np.unique(row[order], return_index=True)[1]
    best[contested] = cluster[order][first]
