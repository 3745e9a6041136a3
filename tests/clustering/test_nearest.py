"""Nearest centroids and normalised rows against scikit-learn, float64 and cases worked out by hand."""

import numpy as np
import pytest
from clustering_cases import blobs, exact_labels
from sklearn.preprocessing import Normalizer

from hubert_ecg.clustering.nearest import assign, nearest, normalise_rows


def test_normalise_rows_equals_sklearn_and_keeps_zero_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32) * 30
    rows[3] = 0
    np.testing.assert_allclose(normalise_rows(rows), Normalizer().fit_transform(rows), atol=1e-6)
    assert (normalise_rows(rows)[3] == 0).all()


@pytest.mark.parametrize(("num_rows", "dim", "num_clusters"), [(4000, 39, 100), (1500, 256, 300), (500, 3, 1)])
def test_nearest_equals_float64(num_rows: int, dim: int, num_clusters: int) -> None:
    rows = blobs(num_rows, dim, 50)
    centroids = blobs(num_clusters, dim, 50, seed=1)
    np.testing.assert_array_equal(nearest(rows, centroids), exact_labels(rows, centroids))


def test_nearest_is_right_among_centroids_that_float32_products_cannot_tell_apart() -> None:
    rng = np.random.default_rng(0)
    centroids = (100 + 1e-4 * rng.standard_normal((40, 16))).astype(np.float32)
    rows = (100 + 1e-4 * rng.standard_normal((800, 16))).astype(np.float32)
    exact = exact_labels(rows, centroids)
    naive = (rows @ centroids.T - (centroids**2).sum(axis=1) / 2).argmax(axis=1)
    assert (naive != exact).mean() > 0.1, "the case is no longer hard"
    np.testing.assert_array_equal(nearest(rows, centroids), exact)


def test_ties_go_to_the_first_centroid() -> None:
    centroids = np.array([[1, 0], [-1, 0], [1, 0], [0, 5]], np.float32)
    rows = np.array([[0, 0], [2, 0], [-3, 1], [0, 1]], np.float32)
    assert nearest(rows, centroids).tolist() == [0, 0, 1, 0]


def test_squared_distances_by_hand() -> None:
    labels, distances = assign(np.array([[3, 4], [1, 1]], np.float32), np.array([[0, 0], [9, 9]], np.float32))
    assert labels.tolist() == [0, 0]
    assert distances.tolist() == [25, 2]
