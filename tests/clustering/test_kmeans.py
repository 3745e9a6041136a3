"""k-means steps against scikit-learn and hand-worked cases; the same result over 1, 2 and 7 shards."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from clustering_cases import blobs
from sklearn.cluster import KMeans, MiniBatchKMeans

from hubert_ecg.clustering import kmeans
from hubert_ecg.clustering.kmeans import KMeansConfig, KMeansState
from hubert_ecg.clustering.nearest import assign, nearest
from hubert_ecg.clustering.seeding import draw_seeds
from hubert_ecg.clustering.sums import PartialSums, block_sums, labelled_sums, merge
from hubert_ecg.errors import ConfigError


def minibatch_step(state: KMeansState, batch: np.ndarray, config: KMeansConfig) -> KMeansState:
    """A step on a batch in memory."""
    return kmeans.minibatch_step(state, config, sums=partial(labelled_sums, batch), rows=lambda: batch)


@pytest.mark.parametrize("num_shards", [1, 2, 7])
def test_codes_do_not_depend_on_the_number_of_shards(num_shards: int) -> None:
    rows = blobs(9001, 24, 30)
    seeds = draw_seeds(rows, 40, seeding="k-means++", rng=np.random.default_rng(3))
    config = KMeansConfig(batch_size=3000, reassignment_ratio=0)

    def run(shards: list[np.ndarray]) -> np.ndarray:
        state = KMeansState.start(seeds)
        for step in range(4):
            batch = np.sort(config.batch_rng(step).permutation(len(rows))[: config.batch_size])
            blocks = np.array_split(rows[batch], len(shards))
            centroids = state.centroids.astype(np.float32)
            state = kmeans.minibatch_update(state, merge(block_sums(block, centroids) for block in blocks), config)
        for _ in range(2):
            centroids = state.centroids.astype(np.float32)
            state = kmeans.lloyd_update(state, merge(block_sums(shard, centroids) for shard in shards))
        assert state.smoothed_inertia is not None
        return state.centroids

    serial = run([rows])
    sharded = run(np.array_split(rows, num_shards))
    np.testing.assert_array_equal(sharded, serial)
    labels = np.concatenate([nearest(shard, sharded) for shard in np.array_split(rows, num_shards)])
    np.testing.assert_array_equal(labels, nearest(rows, serial))
    assert len(np.unique(labels)) > 20


@pytest.mark.parametrize("batches", [1, 3])
def test_minibatch_update_equals_sklearn_partial_fit(batches: int) -> None:
    rows = blobs(6000, 12, 20)
    seeds = rows[:25]
    # At equal precision: with float32 rows scikit-learn would add up in float32.
    oracle = MiniBatchKMeans(25, init=seeds.astype(np.float64), n_init=1, reassignment_ratio=0)
    state = KMeansState.start(seeds)
    for batch in np.array_split(rows, batches):
        oracle.partial_fit(batch.astype(np.float64))
        state = minibatch_step(state, batch, KMeansConfig(reassignment_ratio=0))
    np.testing.assert_allclose(state.centroids, oracle.cluster_centers_, atol=1e-6)
    np.testing.assert_array_equal(state.counts, oracle.counts_ if hasattr(oracle, "counts_") else oracle._counts)


def test_a_centroid_without_rows_stays_where_it_is() -> None:
    sums = PartialSums(sums=np.array([[6.0], [0.0]]), counts=np.array([3, 0]), square_norm=12.0)
    state = KMeansState.start(np.array([[1.0], [9.0]]))
    assert kmeans.minibatch_update(state, sums, KMeansConfig()).centroids.tolist() == [[2], [9]]
    lloyd = kmeans.lloyd_update(state, sums)
    assert (lloyd.centroids.tolist(), lloyd.counts.tolist()) == ([[2], [9]], [3, 0])


def test_lloyd_updates_never_raise_the_inertia() -> None:
    rows = blobs(3000, 10, 20)
    state = KMeansState.start(rows[:20])
    inertias = []
    for _ in range(6):
        centroids = state.centroids.astype(np.float32)
        everything = block_sums(rows, centroids)
        inertias.append(everything.inertia(centroids))
        state = kmeans.lloyd_update(state, everything)
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[-1] < 0.9 * inertias[0]


def test_dead_centroids_move_to_rows_far_from_theirs() -> None:
    state = KMeansState(centroids=np.array([[0.0], [50.0], [1.0]]), counts=np.array([600, 0, 400]))
    rows = np.array([[0.0], [1.0], [7.0], [0.0]], np.float32)
    distances = np.array([0, 0, 36, 0], np.float32)
    moved = kmeans.reseed_dead(state, rows, distances, ratio=0.01, rng=np.random.default_rng(0))
    assert moved.centroids.tolist() == [[0], [7], [1]]
    assert moved.counts.tolist() == [600, 400, 400]
    assert state.centroids.tolist() == [[0], [50], [1]], "the state before is left alone"


def test_no_centroid_moves_when_none_is_dead_or_no_row_is_far() -> None:
    state = KMeansState(centroids=np.array([[0.0], [5.0]]), counts=np.array([90, 10]))
    rows = np.zeros((4, 1), np.float32)
    rng = np.random.default_rng(0)
    for ratio, distances in ((0.1, np.ones(4, np.float32)), (0.5, np.zeros(4, np.float32))):
        moved = kmeans.reseed_dead(state, rows, distances, ratio=ratio, rng=rng)
        np.testing.assert_array_equal(moved.centroids, state.centroids)


def test_stops_after_steps_without_a_new_low_of_the_smoothed_inertia() -> None:
    config = KMeansConfig(max_no_improvement=3, smoothing_steps=1, max_steps=100)
    state = KMeansState.start(np.zeros((1, 1)))
    finished = []
    # The sum is 0, so the centroid stays at 0 and the inertia is the square norm. The first batch does not count.
    for square_norm in (1.0, 9.0, 4.0, 5.0, 5.0, 5.0):
        sums = PartialSums(sums=np.zeros((1, 1)), counts=np.array([1]), square_norm=square_norm)
        state = kmeans.minibatch_update(state, sums, config)
        finished.append(state.finished(config))
    assert finished == [False, False, False, False, False, True]
    assert state.best_inertia == 4
    assert not state.finished(replace(config, max_no_improvement=None))
    assert state.finished(replace(config, max_no_improvement=None, max_steps=6))


def test_moving_average_by_hand() -> None:
    config = KMeansConfig(smoothing_steps=3)
    state = KMeansState.start(np.zeros((1, 1)))
    for square_norm in (100.0, 8.0, 4.0):
        sums = PartialSums(sums=np.zeros((1, 1)), counts=np.array([2]), square_norm=square_norm)
        state = kmeans.minibatch_update(state, sums, config)
    # Per row 4, then 2, each with weight 2 / (3 + 1).
    assert state.smoothed_inertia == 3


def test_fit_is_as_good_as_sklearn_and_repeats_itself() -> None:
    rows = blobs(8000, 16, 60)
    config = KMeansConfig(batch_size=1024, max_steps=150, seed=5)
    state, inertia = kmeans.fit(rows, 50, config)
    again, _ = kmeans.fit(rows, 50, config)
    np.testing.assert_array_equal(state.centroids, again.centroids)
    oracle = MiniBatchKMeans(50, batch_size=1024, n_init=1, random_state=0).fit(rows)
    assert inertia <= 1.01 * oracle.inertia_
    assert state.counts.sum() == 8000
    _, distances = assign(rows, state.centroids)
    assert inertia == pytest.approx(distances.sum(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize(
    "settings_",
    [{"batch_size": 0}, {"max_steps": -1}, {"n_init": 0}, {"max_no_improvement": 0}, {"reassignment_ratio": 1.0}],
)
def test_impossible_settings_are_refused(settings_: dict) -> None:
    with pytest.raises(ConfigError):
        KMeansConfig(**settings_)


def test_full_passes_equal_sklearn_from_the_same_seeds() -> None:
    rows = blobs(3000, 12, 40).astype(np.float64)
    seeds = rows[:30]
    oracle = KMeans(30, init=seeds, n_init=1, max_iter=1000, tol=0).fit(rows)
    state = KMeansState.start(seeds)
    for _ in range(oracle.n_iter_ + 1):
        everything = block_sums(rows, kmeans.as_assigned(state.centroids))
        state = kmeans.lloyd_update(state, everything)
    np.testing.assert_allclose(state.centroids, oracle.cluster_centers_, atol=1e-6)
    assert everything.inertia(kmeans.as_assigned(state.centroids)) == pytest.approx(oracle.inertia_, rel=1e-5)


def test_the_sample_is_of_different_rows_and_small_tables_are_taken_whole() -> None:
    rng = np.random.default_rng(0)
    sample = kmeans.sample_places(10**12, 1000, rng)
    assert len(np.unique(sample)) == 1000
    assert (np.diff(sample) > 0).all()
    assert kmeans.sample_places(5, 1000, rng).tolist() == [0, 1, 2, 3, 4]
