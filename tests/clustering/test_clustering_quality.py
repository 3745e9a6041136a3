"""Clustering quality by hand, against scikit-learn, and over shards."""

import numpy as np
import pytest
from sklearn.metrics import (
    calinski_harabasz_score,
    davies_bouldin_score,
    mutual_info_score,
    normalized_mutual_info_score,
)

from hubert_ecg.clustering import quality
from hubert_ecg.clustering.nearest import nearest
from hubert_ecg.clustering.sums import block_sums, distance_sums, merge
from hubert_ecg.errors import InputError


def test_contingency_by_hand_and_over_shards() -> None:
    codes, labels = np.array([0, 0, 2, 2, 2], np.uint16), np.array([1, 0, 1, 1, 1])
    table = quality.contingency(codes, labels, 3, 2)
    assert table.tolist() == [[1, 1], [0, 0], [0, 3]]
    parts = [quality.contingency(codes[part], labels[part], 3, 2) for part in (slice(0, 2), slice(2, 5))]
    assert sum(parts).tolist() == table.tolist()  # type: ignore[union-attr]


def test_usage_and_perplexity_by_hand() -> None:
    assert quality.usage(np.array([3, 0, 1, 0])) == 0.5
    assert quality.perplexity(np.array([7, 7, 7, 7])) == pytest.approx(4)
    assert quality.perplexity(np.array([0, 9, 0])) == pytest.approx(1)
    # Shares 1/2, 1/4, 1/4: entropy 1.5 bits.
    assert quality.perplexity(np.array([2, 1, 1])) == pytest.approx(2**1.5)


def test_purity_by_hand() -> None:
    assert quality.purity(np.array([[8, 2], [1, 4], [0, 5]])) == pytest.approx(17 / 20)


def test_mutual_information_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=2000)
    codes = (labels * 3 + rng.integers(5, size=2000)) % 14
    table = quality.contingency(codes, labels, 20, 4)
    assert quality.mutual_information(table) == pytest.approx(mutual_info_score(labels, codes))
    assert quality.normalised_mutual_information(table) == pytest.approx(normalized_mutual_info_score(labels, codes))


def test_extremes_of_mutual_information() -> None:
    for measure in (quality.normalised_mutual_information, quality.label_normalised_mutual_information):
        assert measure(np.diag([5, 3, 9])) == pytest.approx(1)
        assert measure(np.outer([2, 4], [3, 5, 1])) == pytest.approx(0, abs=1e-12)
        assert measure(np.array([[4]])) == 1
    # Finer clusters still explain the label wholly, but share less of their own entropy with it.
    finer = np.array([[5, 0], [5, 0], [0, 5], [0, 5]])
    assert quality.label_normalised_mutual_information(finer) == pytest.approx(1)
    assert quality.normalised_mutual_information(finer) == pytest.approx(2 / 3)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(InputError, match="codes: wanted 0 to 2, got 0 to 3"):
        quality.contingency(np.array([0, 3]), np.array([0, 0]), 3, 1)
    with pytest.raises(InputError, match="one label for each of 2 codes"):
        quality.contingency(np.array([0, 1]), np.array([0]), 3, 1)
    with pytest.raises(InputError, match="at least one row"):
        quality.perplexity(np.zeros(4, np.int64))


def _clustered(num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((900, 5)).astype(np.float32) + 3 * rng.standard_normal((8, 5))[rng.integers(8, size=900)]
    return rows.astype(np.float32), rows[:num_clusters].astype(np.float32)


@pytest.mark.parametrize("shards", [1, 7])
def test_compactness_equals_sklearn_whatever_the_cutting(shards: int) -> None:
    rows, centroids = _clustered(12)
    centroids = np.concatenate([centroids, np.full((1, 5), 1e3, np.float32)])  # nearest to no row
    codes = nearest(rows, centroids)
    everything = merge(block_sums(part, centroids) for part in np.array_split(rows, shards))
    means = everything.means()
    cut = zip(np.array_split(rows, shards), np.array_split(codes, shards), strict=True)
    distances = sum(distance_sums(part, of_part, means, largest=10.0) for part, of_part in cut)
    assert quality.calinski_harabasz(everything) == pytest.approx(calinski_harabasz_score(rows, codes), rel=1e-5)
    assert quality.davies_bouldin(means, everything.counts, distances) == pytest.approx(
        davies_bouldin_score(rows, codes), rel=1e-5
    )


def test_compactness_by_hand() -> None:
    # Two clusters of two rows on a line: {0, 2} and {10, 12}, means 1 and 11, each row 1 from its mean.
    rows = np.array([[0.0], [2.0], [10.0], [12.0]], np.float32)
    everything = block_sums(rows, np.array([[1.0], [11.0]], np.float32))
    assert quality.calinski_harabasz(everything) == pytest.approx((2 * 25 + 2 * 25) / 1 / (4 / 2))
    assert quality.davies_bouldin(everything.means(), everything.counts, np.array([2.0, 2.0])) == pytest.approx(0.2)
    silhouettes = [1 - 2 / 11, 1 - 2 / 9, 1 - 2 / 9, 1 - 2 / 11]
    assert quality.silhouette(rows, np.array([0, 0, 1, 1])) == pytest.approx(np.mean(silhouettes))


def test_undefined_figures_are_none() -> None:
    one = block_sums(np.ones((4, 2), np.float32), np.ones((2, 2), np.float32))
    assert quality.calinski_harabasz(one) is None
    assert quality.davies_bouldin(one.means(), one.counts, np.zeros(2)) is None
    assert quality.davies_bouldin(np.ones((2, 2)), np.array([3, 3]), np.ones(2)) is None
    assert quality.silhouette(np.ones((4, 2)), np.zeros(4)) is None


def test_the_elbow_is_where_the_curve_bends() -> None:
    assert quality.elbow([10, 20, 30, 40, 50], [100, 40, 30, 25, 20]) == 20
    assert quality.elbow([10, 20, 30], [100, 90, 20]) is None, "it bends the other way"
    assert quality.elbow([10, 20], [100, 20]) is None
    assert quality.elbow([10, 20, 30], [5, 6, 7]) is None
