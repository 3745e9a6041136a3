"""DeLong's covariance equals that of placement values counted pair by pair; its level is what it says."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.delong import delong_test


def brute_force(targets: np.ndarray, scores: list[np.ndarray]) -> np.ndarray:
    """[2, 2] covariance of two AUROCs from the definition: every pair of a positive and a negative is looked at."""
    v10, v01 = [], []
    for of in scores:
        wins = [[(x > y) + 0.5 * (x == y) for y in of[~targets]] for x in of[targets]]
        v10.append(np.mean(wins, axis=1))
        v01.append(np.mean(wins, axis=0))
    positives = int(targets.sum())

    def covariance(values: list[np.ndarray]) -> np.ndarray:
        centred = np.stack(values) - np.mean(values, axis=1, keepdims=True)
        return centred @ centred.T / (centred.shape[1] - 1)

    return covariance(v10) / positives + covariance(v01) / (len(targets) - positives)


def test_it_equals_placement_values_counted_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    for ties in (1, 5):
        targets = rng.random(60) < 0.3
        first = (rng.normal(size=60) + targets).round(ties)
        second = (0.5 * first + rng.normal(size=60)).round(ties)
        result = delong_test(targets, first, second)
        assert result.first == pytest.approx(roc_auc_score(targets, first))
        assert result.second == pytest.approx(roc_auc_score(targets, second))
        expected = brute_force(targets, [first, second])
        found = [[result.variance_first, result.covariance], [result.covariance, result.variance_second]]
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        assert result.z == pytest.approx(
            (result.first - result.second) / np.sqrt(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1])
        )
        low, high = result.interval()
        assert (low + high) / 2 == pytest.approx(result.first - result.second)
        assert (low > 0 or high < 0) == (result.p_value is not None and result.p_value < 0.05)


def test_without_a_difference_one_test_in_twenty_finds_one() -> None:
    """2,000 tests: the standard deviation of their share is 0.005."""
    rng = np.random.default_rng(1)
    targets = np.arange(150) < 50
    common = rng.normal(size=(2000, 150)) + targets
    found = [delong_test(targets, c + rng.normal(size=150), c + rng.normal(size=150)).p_value for c in common]
    assert np.mean([p < 0.05 for p in found if p is not None]) == pytest.approx(0.05, abs=0.02)


def test_equal_rankings_have_no_test_and_unfit_inputs_are_refused() -> None:
    targets = np.array([True, True, False, False, True])
    scores = np.array([0.9, 0.2, 0.3, 0.1, 0.5])
    assert delong_test(targets, scores, scores**3).p_value is None
    with pytest.raises(InputError, match="at least 2 positives"):
        delong_test(np.array([True, False, False]), scores[:3], scores[:3])
    with pytest.raises(InputError, match="finite"):
        delong_test(targets, scores, np.full(5, np.nan))
