"""Mini-batch k-means of several numbers of clusters at once, whose every read of the feature table feeds them all.

A read draws the rows of the seeding sample and of as many coming mini-batches as fit a budget of memory. Then each
number of clusters goes through those batches in Ray tasks of its own. Full passes assign every row to all codebooks'
centroids in the one read. The arithmetic is that of clustering.kmeans.fit, and so is the result, to the last bit.
"""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from hubert_ecg.clustering.kmeans import (
    KMeansConfig,
    KMeansState,
    as_assigned,
    best_seeds,
    lloyd_update,
    minibatch_step,
)
from hubert_ecg.clustering.nearest import Finder
from hubert_ecg.clustering.seeding import draw_seeds
from hubert_ecg.clustering.sums import PartialSums, block_sums, labelled_sums, merge
from hubert_ecg.pipeline.kmeans_rows import SECONDS_BETWEEN_LINES, Drawn, Rows, all_sums, draw, listed
from hubert_ecg.pipeline.ray_cluster import available, remote

log = logging.getLogger(__name__)

States = dict[int, KMeansState]
"""Number of clusters -> how far its fit is."""

SECONDS_PER_TASK = 2.0
"""Work between two reports of a task, so that little is lost with it and its own cost is small beside it."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A codebook's centroids with what a last pass over all rows found."""

    state: KMeansState
    everything: PartialSums
    """Of all rows under the float32 centroids."""

    @property
    def centroids(self) -> np.ndarray:
        """[cluster, column] float32."""
        return as_assigned(self.state.centroids)


def advance(
    rows: Rows,
    ks: list[int],
    config: KMeansConfig,
    states: States,
    *,
    batches_mb: int,
    seconds_per_task: float = SECONDS_PER_TASK,
) -> Iterator[States]:
    """Take the fits from `states` (empty: from the start) to their end, giving the states every so often.

    Going on from any states that were given leads to the same end. `batches_mb` bounds the drawn rows held at a time;
    a task takes as many mini-batch steps as fit `seconds_per_task`, and at least one.
    """
    while unfinished := [k for k in ks if k not in states or not states[k].finished(config)]:
        first = min(states[k].step if k in states else 0 for k in unfinished)
        batch_mb = config.batch_size * rows.dim * 4 / 1e6
        steps = range(first, min(config.max_steps, first + max(1, int(batches_mb / batch_mb))))
        seeding = not states
        places = partial(batch_places, config, rows.total, steps, seeding)
        drawn = draw(rows, places, f"reading batches {first} to {steps.stop - 1}")
        if seeding:
            states = _seeded(drawn, ks, config)
            yield states
        for batched in through_batches(
            drawn, states, config, steps, first_list=1 if seeding else 0, seconds_per_task=seconds_per_task
        ):
            states = batched
            yield states
    while remaining := [k for k in ks if states[k].lloyd_passes < config.lloyd_passes]:
        number = min(states[k].lloyd_passes for k in remaining) + 1
        what = f"full pass {number}/{config.lloyd_passes}"
        totals = all_sums(rows, [as_assigned(states[k].centroids) for k in remaining], what)
        states = states | {k: lloyd_update(states[k], total) for k, total in zip(remaining, totals, strict=True)}
        yield states


def finish(rows: Rows, states: States) -> dict[int, Fitted]:
    """Number of clusters -> its final centroids, counted over all rows; one pass for all."""
    totals = all_sums(rows, [as_assigned(state.centroids) for state in states.values()], "counting clusters")
    return {
        k: Fitted(state=replace(state, counts=total.counts), everything=total)
        for (k, state), total in zip(states.items(), totals, strict=True)
    }


def batch_places(config: KMeansConfig, total: int, steps: range, seeding: bool) -> Iterator[np.ndarray]:
    """Row numbers of the seeding sample, if wanted, and of each batch."""
    if seeding:
        yield config.sample(total)
    for step in steps:
        yield config.batch(step, total)


def _seeded(drawn: Drawn, ks: list[int], config: KMeansConfig) -> States:
    """The start of each fit: `n_init` draws each, all of them side by side."""
    import ray

    tasks = {
        k: [remote(_seed).remote(k, number, config, drawn.cuts, *drawn.blocks) for number in range(config.n_init)]
        for k in sorted(ks, reverse=True)
    }
    states = {}
    for k in ks:
        seeds, inertias = zip(*ray.get(tasks[k]), strict=True)
        states[k] = KMeansState.start(best_seeds(list(seeds), list(inertias)))
        log.info("cluster: K = %d seeded by %s", k, config.seeding)
    return states


def _seed(
    num_clusters: int, number: int, config: KMeansConfig, cuts: list[np.ndarray], *blocks: np.ndarray
) -> tuple[np.ndarray, float]:
    """Draw `number` of starting centroids from the sample, which is list 0, and its inertia there."""
    sample = np.concatenate(listed(0, cuts, blocks))
    rng = config.seeding_rngs()[number]
    seeds = draw_seeds(sample, num_clusters, seeding=config.seeding, rng=rng)
    return seeds, block_sums(sample, seeds).inertia(seeds)


def through_batches(
    drawn: Drawn,
    states: States,
    config: KMeansConfig,
    steps: range,
    *,
    first_list: int,
    seconds_per_task: float = SECONDS_PER_TASK,
) -> Iterator[States]:
    """Take every fit through the drawn batches, some steps per task; as fits end, the others get their CPUs.

    Batch `steps[0]` is list `first_list` of what was drawn.
    """
    import ray

    cuts = ray.put(drawn.cuts)
    waiting = sorted((k for k, state in states.items() if _goes_on(state, config, steps)), reverse=True)
    running: dict[Any, int] = {}
    progress = _Progress(config)
    while waiting or running:
        cpus = _cpus_each(len(waiting) + len(running))
        for k in waiting:
            task = remote(_take_steps, num_cpus=cpus)
            done = task.remote(states[k], config, steps, first_list, seconds_per_task, cpus, cuts, *drawn.blocks)
            running[done] = k
        waiting = []
        finished, _ = ray.wait(list(running), num_returns=1)
        k = running.pop(finished[0])
        before, states = states[k].step, states | {k: ray.get(finished[0])}
        if _goes_on(states[k], config, steps):
            waiting.append(k)
        progress.line(k, states[k], states[k].step - before)
        yield states


def _goes_on(state: KMeansState, config: KMeansConfig, steps: range) -> bool:
    return not state.finished(config) and state.step < steps.stop


def _take_steps(
    state: KMeansState,
    config: KMeansConfig,
    steps: range,
    first_list: int,
    seconds: float,
    cpus: int,
    cuts: list[np.ndarray],
    *blocks: np.ndarray,
) -> KMeansState:
    """Some steps of one fit on as many threads as the task has CPUs; their number changes nothing in the result."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    until, first = time.monotonic() + seconds, state.step
    # Each thread multiplies matrices of its own, in one thread.
    with threadpool_limits(1), ThreadPoolExecutor(cpus) as threads:
        while _goes_on(state, config, steps) and (state.step == first or time.monotonic() < until):
            pieces = listed(first_list + state.step - steps.start, cuts, blocks)
            shares = _shares(pieces, cpus)

            def sums(finder: Finder, shares: list[list[np.ndarray]] = shares) -> tuple[PartialSums, np.ndarray]:
                done = list(threads.map(lambda share: labelled_sums(_joined(share), finder), shares))
                return merge(found for found, _ in done), np.concatenate([labels for _, labels in done])

            state = minibatch_step(state, config, sums=sums, rows=partial(np.concatenate, pieces))
    return state


def _shares(pieces: list[np.ndarray], number: int) -> list[list[np.ndarray]]:
    """Pieces of rows [row, column] dealt out in `number` shares of equal size, cut where need be."""
    ends = np.cumsum([len(piece) for piece in pieces])
    edges = np.linspace(0, ends[-1], number + 1).astype(int)
    shares: list[list[np.ndarray]] = []
    for low, high in pairwise(edges):
        starts = ends - [len(piece) for piece in pieces]
        within = [piece[max(0, low - s) : max(0, high - s)] for piece, s in zip(pieces, starts, strict=True)]
        shares.append([piece for piece in within if len(piece)])
    return [share for share in shares if share]


def _joined(share: list[np.ndarray]) -> np.ndarray:
    return share[0] if len(share) == 1 else np.concatenate(share)


def _cpus_each(fits: int) -> int:
    """CPUs for each of some fits that run side by side, no more than the smallest node has."""
    import ray

    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    smallest = min((cpus for cpus in nodes if cpus > 0), default=1)
    return max(1, min(smallest, available("CPU") // fits))


class _Progress:
    """A line every few seconds: the fit that reported last, and the rows of all fits per second."""

    def __init__(self, config: KMeansConfig) -> None:
        self.config = config
        self.start = self.last = time.monotonic()
        self.rows = 0

    def line(self, k: int, state: KMeansState, steps: int) -> None:
        self.rows += steps * self.config.batch_size
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES and not state.finished(self.config):
            return
        self.last = now
        inertia = float("nan") if state.smoothed_inertia is None else state.smoothed_inertia
        log.info(
            "cluster: K = %d, step %d/%d%s, inertia per row %.5g, %s rows/s of all K",
            k,
            state.step,
            self.config.max_steps,
            " (done)" if state.finished(self.config) else "",
            inertia,
            f"{self.rows / max(now - self.start, 1e-9):,.0f}",
        )
