"""k-means steps against scikit-learn, float64 and hand-worked cases; the same result over 1, 2 and 7 shards."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.cluster import MiniBatchKMeans
from sklearn.preprocessing import Normalizer

from hubert_ecg.clustering import kmeans
from hubert_ecg.clustering.kmeans import KMeansConfig, KMeansState, PartialSums
from hubert_ecg.errors import ConfigError, InputError


def _blobs(num_rows: int, dim: int, num_blobs: int, *, seed: int = 0, spread: float = 0.5) -> np.ndarray:
    """[row, dim] float32 on the unit sphere, around `num_blobs` directions that share a common part."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((num_blobs, dim)) + 2
    rows = middles[rng.integers(num_blobs, size=num_rows)] + spread * rng.standard_normal((num_rows, dim))
    return kmeans.normalise_rows(rows)


def _exact_labels(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Nearest by differences in float64, one row at a time."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    return np.array([((row - centroids) ** 2).sum(axis=1).argmin() for row in rows])


def test_normalise_rows_equals_sklearn_and_keeps_zero_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32) * 30
    rows[3] = 0
    np.testing.assert_allclose(kmeans.normalise_rows(rows), Normalizer().fit_transform(rows), atol=1e-6)
    assert (kmeans.normalise_rows(rows)[3] == 0).all()


@pytest.mark.parametrize(("num_rows", "dim", "num_clusters"), [(4000, 39, 100), (1500, 256, 300), (500, 3, 1)])
def test_nearest_equals_float64(num_rows: int, dim: int, num_clusters: int) -> None:
    rows = _blobs(num_rows, dim, 50)
    centroids = _blobs(num_clusters, dim, 50, seed=1)
    np.testing.assert_array_equal(kmeans.nearest(rows, centroids), _exact_labels(rows, centroids))


def test_nearest_is_right_among_centroids_that_float32_products_cannot_tell_apart() -> None:
    rng = np.random.default_rng(0)
    centroids = (100 + 1e-4 * rng.standard_normal((40, 16))).astype(np.float32)
    rows = (100 + 1e-4 * rng.standard_normal((800, 16))).astype(np.float32)
    exact = _exact_labels(rows, centroids)
    naive = (rows @ centroids.T - (centroids**2).sum(axis=1) / 2).argmax(axis=1)
    assert (naive != exact).mean() > 0.1, "the case is no longer hard"
    np.testing.assert_array_equal(kmeans.nearest(rows, centroids), exact)


def test_ties_go_to_the_first_centroid() -> None:
    centroids = np.array([[1, 0], [-1, 0], [1, 0], [0, 5]], np.float32)
    rows = np.array([[0, 0], [2, 0], [-3, 1], [0, 1]], np.float32)
    assert kmeans.nearest(rows, centroids).tolist() == [0, 0, 1, 0]


def test_squared_distances_by_hand() -> None:
    labels, distances = kmeans.assign(np.array([[3, 4], [1, 1]], np.float32), np.array([[0, 0], [9, 9]], np.float32))
    assert labels.tolist() == [0, 0]
    assert distances.tolist() == [25, 2]


def test_partial_sums_by_hand() -> None:
    rows = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    sums = kmeans.partial_sums(rows, np.array([2, 0, 2]), np.zeros((3, 2), np.float32) + 1)
    assert sums.sums.tolist() == [[3, 4], [0, 0], [6, 8]]
    assert sums.counts.tolist() == [1, 0, 2]
    assert sums.square_norm == 91


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_rounded_sums_are_close_to_plain_ones_at_any_scale(scale: float) -> None:
    rows = _blobs(5000, 20, 10) * np.float32(scale)
    centroids = rows[:10]
    labels = kmeans.nearest(rows, centroids)
    sums = kmeans.partial_sums(rows, labels, centroids)
    for cluster in range(10):
        expected = rows[labels == cluster].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(sums.sums[cluster], expected, rtol=1e-6, atol=1e-5 * scale)
    _, distances = kmeans.assign(rows, centroids)
    assert sums.inertia(centroids) == pytest.approx(distances.sum(dtype=np.float64), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    rows=npst.arrays(np.float32, (30, 4), elements=st.floats(-100, 100, width=32)),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    seed=st.integers(0, 5),
)
def test_sums_are_identical_to_the_last_bit_however_rows_are_cut(rows: np.ndarray, cuts: list[int], seed: int) -> None:
    centroids = np.random.default_rng(seed).uniform(-50, 50, (5, 4)).astype(np.float32)
    whole = kmeans.block_sums(rows, centroids)
    parts = kmeans.merge(kmeans.block_sums(part, centroids) for part in reversed(np.split(rows, sorted(cuts))))
    np.testing.assert_array_equal(parts.sums, whole.sums)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert parts.square_norm == whole.square_norm


@pytest.mark.parametrize("num_shards", [1, 2, 7])
def test_codes_do_not_depend_on_the_number_of_shards(num_shards: int) -> None:
    rows = _blobs(9001, 24, 30)
    seeds = kmeans.kmeans_plus_plus(rows, 40, seed=3)
    config = KMeansConfig(batch_size=3000, reassignment_ratio=0)

    def run(shards: list[np.ndarray]) -> np.ndarray:
        state = KMeansState.start(seeds)
        for step in range(4):
            batch = np.sort(config.batch_rng(step).permutation(len(rows))[: config.batch_size])
            blocks = np.array_split(rows[batch], len(shards))
            centroids = state.centroids.astype(np.float32)
            state = kmeans.minibatch_update(
                state, kmeans.merge(kmeans.block_sums(block, centroids) for block in blocks), config
            )
        for _ in range(2):
            centroids = state.centroids.astype(np.float32)
            state = kmeans.lloyd_update(state, kmeans.merge(kmeans.block_sums(shard, centroids) for shard in shards))
        assert state.smoothed_inertia is not None
        return state.centroids

    serial = run([rows])
    sharded = run(np.array_split(rows, num_shards))
    np.testing.assert_array_equal(sharded, serial)
    labels = np.concatenate([kmeans.nearest(shard, sharded) for shard in np.array_split(rows, num_shards)])
    np.testing.assert_array_equal(labels, kmeans.nearest(rows, serial))
    assert len(np.unique(labels)) > 20


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one block"):
        kmeans.merge([])


@pytest.mark.parametrize("batches", [1, 3])
def test_minibatch_update_equals_sklearn_partial_fit(batches: int) -> None:
    rows = _blobs(6000, 12, 20)
    seeds = rows[:25]
    # At equal precision: with float32 rows scikit-learn would add up in float32.
    oracle = MiniBatchKMeans(25, init=seeds.astype(np.float64), n_init=1, reassignment_ratio=0)
    state = KMeansState.start(seeds)
    for batch in np.array_split(rows, batches):
        oracle.partial_fit(batch.astype(np.float64))
        state = kmeans.minibatch_step(state, batch, KMeansConfig(reassignment_ratio=0))
    np.testing.assert_allclose(state.centroids, oracle.cluster_centers_, atol=1e-6)
    np.testing.assert_array_equal(state.counts, oracle.counts_ if hasattr(oracle, "counts_") else oracle._counts)


def test_a_centroid_without_rows_stays_where_it_is() -> None:
    sums = PartialSums(sums=np.array([[6.0], [0.0]]), counts=np.array([3, 0]), square_norm=12.0)
    state = KMeansState.start(np.array([[1.0], [9.0]]))
    assert kmeans.minibatch_update(state, sums, KMeansConfig()).centroids.tolist() == [[2], [9]]
    lloyd = kmeans.lloyd_update(state, sums)
    assert (lloyd.centroids.tolist(), lloyd.counts.tolist()) == ([[2], [9]], [3, 0])


def test_lloyd_updates_never_raise_the_inertia() -> None:
    rows = _blobs(3000, 10, 20)
    state = KMeansState.start(rows[:20])
    inertias = []
    for _ in range(6):
        centroids = state.centroids.astype(np.float32)
        everything = kmeans.block_sums(rows, centroids)
        inertias.append(everything.inertia(centroids))
        state = kmeans.lloyd_update(state, everything)
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[-1] < 0.9 * inertias[0]


def test_kmeans_plus_plus_chooses_rows_one_in_each_far_blob() -> None:
    rng = np.random.default_rng(0)
    blob = rng.integers(8, size=400)
    rows = (np.eye(8)[blob] * 100 + rng.standard_normal((400, 8))).astype(np.float32)
    seeds = kmeans.kmeans_plus_plus(rows, 8, seed=0)
    assert {tuple(seed) for seed in seeds} <= {tuple(row) for row in rows}
    assert sorted(seeds.argmax(axis=1)) == list(range(8))


def test_kmeans_plus_plus_follows_its_seed_and_more_draws_do_not_hurt() -> None:
    rows = _blobs(1000, 6, 30)
    first = kmeans.kmeans_plus_plus(rows, 15, seed=1)
    np.testing.assert_array_equal(first, kmeans.kmeans_plus_plus(rows, 15, seed=1))
    assert (first != kmeans.kmeans_plus_plus(rows, 15, seed=2)).any()
    best = kmeans.kmeans_plus_plus(rows, 15, seed=1, n_init=5)
    inertias = [kmeans.block_sums(rows, seeds).inertia(seeds) for seeds in (best, first)]
    assert inertias[0] <= inertias[1]


def test_kmeans_plus_plus_survives_rows_that_are_all_alike_and_refuses_too_few() -> None:
    assert kmeans.kmeans_plus_plus(np.ones((5, 3), np.float32), 4, seed=0).tolist() == [[1, 1, 1]] * 4
    with pytest.raises(InputError, match="at least 6 rows for as many clusters, got 5"):
        kmeans.kmeans_plus_plus(np.ones((5, 3), np.float32), 6, seed=0)


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
    rows = _blobs(8000, 16, 60)
    config = KMeansConfig(batch_size=1024, max_steps=150, seed=5)
    state, inertia = kmeans.fit(rows, 50, config)
    again, _ = kmeans.fit(rows, 50, config)
    np.testing.assert_array_equal(state.centroids, again.centroids)
    oracle = MiniBatchKMeans(50, batch_size=1024, n_init=1, random_state=0).fit(rows)
    assert inertia <= 1.01 * oracle.inertia_
    assert state.counts.sum() == 8000
    _, distances = kmeans.assign(rows, state.centroids)
    assert inertia == pytest.approx(distances.sum(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize(
    "settings_",
    [{"batch_size": 0}, {"max_steps": -1}, {"n_init": 0}, {"max_no_improvement": 0}, {"reassignment_ratio": 1.0}],
)
def test_impossible_settings_are_refused(settings_: dict) -> None:
    with pytest.raises(ConfigError):
        KMeansConfig(**settings_)
