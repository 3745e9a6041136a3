"""Sums per cluster by hand, at any scale, and the same to the last bit however rows are cut."""

import numpy as np
import pytest
from clustering_cases import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hubert_ecg.clustering.nearest import assign, nearest
from hubert_ecg.clustering.sums import block_sums, distance_sums, merge, partial_sums
from hubert_ecg.errors import InputError


def test_partial_sums_by_hand() -> None:
    rows = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    sums = partial_sums(rows, np.array([2, 0, 2]), np.zeros((3, 2), np.float32) + 1)
    assert sums.sums.tolist() == [[3, 4], [0, 0], [6, 8]]
    assert sums.counts.tolist() == [1, 0, 2]
    assert sums.square_norm == 91


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_rounded_sums_are_close_to_plain_ones_at_any_scale(scale: float) -> None:
    rows = blobs(5000, 20, 10) * np.float32(scale)
    centroids = rows[:10]
    labels = nearest(rows, centroids)
    sums = partial_sums(rows, labels, centroids)
    for cluster in range(10):
        expected = rows[labels == cluster].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(sums.sums[cluster], expected, rtol=1e-6, atol=1e-5 * scale)
    _, distances = assign(rows, centroids)
    assert sums.inertia(centroids) == pytest.approx(distances.sum(dtype=np.float64), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    rows=npst.arrays(np.float32, (30, 4), elements=st.floats(-100, 100, width=32)),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    seed=st.integers(0, 5),
)
def test_sums_are_identical_to_the_last_bit_however_rows_are_cut(rows: np.ndarray, cuts: list[int], seed: int) -> None:
    centroids = np.random.default_rng(seed).uniform(-50, 50, (5, 4)).astype(np.float32)
    whole = block_sums(rows, centroids)
    parts = merge(block_sums(part, centroids) for part in reversed(np.split(rows, sorted(cuts))))
    np.testing.assert_array_equal(parts.sums, whole.sums)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert parts.square_norm == whole.square_norm


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one block"):
        merge([])


def test_sums_of_distances_by_hand_and_over_cuts() -> None:
    rows = np.array([[3, 4], [0, 0], [1, 1]], np.float32)
    labels, means = np.array([0, 1, 1]), np.array([[0.0, 0.0], [1.0, 0.0]])
    assert distance_sums(rows, labels, means, largest=1.0).tolist() == [5, 2]
    many = blobs(2000, 7, 5)
    codes, middles = nearest(many, many[:9]), many[:9].astype(np.float64)
    whole = distance_sums(many, codes, middles, largest=1.0)
    parts = [distance_sums(many[cut], codes[cut], middles, largest=1.0) for cut in (slice(0, 701), slice(701, None))]
    np.testing.assert_array_equal(parts[0] + parts[1], whole)
    plain = np.linalg.norm(many - middles[codes], axis=1)
    np.testing.assert_allclose(whole, np.bincount(codes, weights=plain, minlength=9), rtol=1e-6)
