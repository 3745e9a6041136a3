"""Mini-batch k-means as pure steps that give the same result however the rows are cut into shards.

One step is: assign each block of rows to its nearest centroid, reduce the block to PartialSums, merge those of all
blocks, update the state. `fit` does it serially; the cluster stage does the same with tasks that read shards.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hubert_ecg.clustering.nearest import Finder, squared_distances
from hubert_ecg.clustering.seeding import Seeding, draw_seeds
from hubert_ecg.clustering.sums import PartialSums, block_sums, labelled_sums
from hubert_ecg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class KMeansConfig:
    """How centroids are fitted."""

    batch_size: int = 16_384
    """Rows per mini-batch step."""
    max_steps: int = 300
    """Mini-batch steps at most."""
    lloyd_passes: int = 2
    """Full passes over all rows after the mini-batches, each moving every centroid to the mean of its rows."""
    seeding: Seeding = "k-means++"
    """How the first centroids are drawn: one by one, far from each other (`k-means++`), or many at a time in a few
    rounds and then thinned out (`k-means||`), which pays for thousands of clusters."""
    n_init: int = 1
    """Seedings to choose the best from."""
    seeding_rows: int = 50_000
    """Rows in the sample that the seeding is drawn from; at least as many as there are clusters."""
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
        if self.seeding not in ("k-means++", "k-means||"):
            raise ConfigError(f"seeding: wanted k-means++ or k-means||, got {self.seeding!r}")
        if not 0 <= self.reassignment_ratio < 1:
            raise ConfigError(f"reassignment_ratio: wanted 0 to below 1, got {self.reassignment_ratio}")

    def batch_rng(self, step: int) -> np.random.Generator:
        """Draws the rows of mini-batch `step`."""
        return np.random.default_rng([self.seed, 1, step])

    def move_rng(self, step: int) -> np.random.Generator:
        """Draws the rows that dead centroids move to after `step`."""
        return np.random.default_rng([self.seed, 2, step])

    def batch(self, step: int, total: int) -> np.ndarray:
        """[batch_size] int64, ascending: numbers of the rows of mini-batch `step` among `total`, with replacement."""
        return np.sort(self.batch_rng(step).integers(total, size=self.batch_size))

    def sample(self, total: int) -> np.ndarray:
        """[row] int64, ascending: numbers of the rows that the seeding is drawn from."""
        return sample_places(total, self.seeding_rows, np.random.default_rng([self.seed, 0]))

    def seeding_rngs(self) -> list[np.random.Generator]:
        """One for each of the `n_init` draws."""
        return np.random.default_rng(self.seed).spawn(self.n_init)


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
    lloyd_passes: int = 0
    """Full passes done after the mini-batches."""

    @classmethod
    def start(cls, centroids: np.ndarray) -> "KMeansState":
        return cls(centroids=centroids.astype(np.float64), counts=np.zeros(len(centroids), np.int64))

    def finished(self, config: KMeansConfig) -> bool:
        """Whether mini-batch steps have reached their number or stopped helping."""
        stalled = config.max_no_improvement is not None and self.steps_without_improvement >= config.max_no_improvement
        return stalled or self.step >= config.max_steps


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
    inertia = batch.inertia(as_assigned(state.centroids)) / num_rows
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
    centroids = np.where(filled[:, None], everything.means(), state.centroids)
    return replace(state, centroids=centroids, counts=everything.counts, lloyd_passes=state.lloyd_passes + 1)


def reseed_dead(
    state: KMeansState, rows: np.ndarray, distances: np.ndarray, *, ratio: float, rng: np.random.Generator
) -> KMeansState:
    """Move centroids with fewer than `ratio` of the largest one's rows to rows far from theirs.

    rows [row, column] with their squared distances [row]: candidates, drawn in proportion to distance as k-means++
    does, so that a lone outlier does not win every time. At most half of the rows are used. A moved centroid starts
    with the smallest count of those that stay, so that its next rows move it further without its being dead again.
    """
    counts = state.counts
    dead = np.flatnonzero(dead_centroids(counts, ratio))
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


def dead_centroids(counts: np.ndarray, ratio: float) -> np.ndarray:
    """[cluster] bool: centroids with fewer rows than `ratio` of the largest one's, or none at all."""
    return np.asarray(counts < max(1.0, ratio * counts.max()))


def minibatch_step(
    state: KMeansState,
    config: KMeansConfig,
    *,
    sums: Callable[[Finder], tuple[PartialSums, np.ndarray]],
    rows: Callable[[], np.ndarray],
) -> KMeansState:
    """One whole step: assign the batch, update, and now and then move dead centroids.

    `sums` assigns and reduces the batch, in whatever pieces, and gives the labels [row], too; `rows` gives the batch as
    [row, column], and is asked only when there are dead centroids to move.
    """
    finder = Finder.of(as_assigned(state.centroids))
    reduced, labels = sums(finder)
    state = minibatch_update(state, reduced, config)
    # As often as scikit-learn does: every ten rows per cluster.
    if config.reassignment_ratio == 0 or state.rows_since_move < 10 * len(state.centroids):
        return state
    if not dead_centroids(state.counts, config.reassignment_ratio).any():
        return replace(state, rows_since_move=0)
    batch = rows()
    distances = squared_distances(batch, finder.centroids, labels)
    rng = config.move_rng(state.step)
    return reseed_dead(state, batch, distances, ratio=config.reassignment_ratio, rng=rng)


def fit(rows: np.ndarray, num_clusters: int, config: KMeansConfig) -> tuple[KMeansState, float]:
    """k-means of rows in memory, already normalised: the serial form of what shards do together.

    Returns the state, its counts those of all rows, and the inertia of all rows.
    """
    sample = rows[config.sample(len(rows))]
    draws = [draw_seeds(sample, num_clusters, seeding=config.seeding, rng=rng) for rng in config.seeding_rngs()]
    state = KMeansState.start(best_seeds(draws, [block_sums(sample, draw).inertia(draw) for draw in draws]))
    while not state.finished(config):
        batch = rows[config.batch(state.step, len(rows))]
        state = minibatch_step(state, config, sums=partial(labelled_sums, batch), rows=partial(np.asarray, batch))
    for _ in range(config.lloyd_passes):
        state = lloyd_update(state, block_sums(rows, as_assigned(state.centroids)))
    final = as_assigned(state.centroids)
    everything = block_sums(rows, final)
    return replace(state, counts=everything.counts), everything.inertia(final)


def best_seeds(draws: list[np.ndarray], inertias: list[float]) -> np.ndarray:
    """The draw of starting centroids with the lowest inertia over the sample, the first among equals."""
    return draws[int(np.argmin(inertias))]


def sample_places(total: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """[place] int64, ascending: `size` different numbers below `total`, or all of them; memory grows with `size`."""
    if total <= size:
        return np.arange(total)
    return np.sort(rng.choice(total, size, replace=False, shuffle=False))


def as_assigned(centroids: np.ndarray) -> np.ndarray:
    """Centroids as rows are assigned to them and as a codebook holds them: float32."""
    return centroids.astype(np.float32)
