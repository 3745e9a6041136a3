"""Clustering quality by hand, against scikit-learn, and over shards."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from hubert_ecg.clustering import quality
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
