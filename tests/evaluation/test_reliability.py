"""Reliability by hand, against scikit-learn's curve, and on probabilities that are true by construction."""

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.reliability import (
    expected_calibration_error,
    reliability,
    reliability_bins,
    to_dict,
    top_label_reliability,
)


def test_an_error_worked_out_by_hand() -> None:
    """Two bins of two: said 0.15, seen 0; said 0.8, seen 0.5; half of 0.15 and half of 0.3."""
    targets, probabilities = np.array([False, False, True, False]), np.array([0.1, 0.2, 0.7, 0.9])
    for binning in ("equal_mass", "equal_width"):
        found = expected_calibration_error(targets, probabilities, bins=2, binning=binning)  # type: ignore[arg-type]
        assert found == pytest.approx(0.5 * 0.15 + 0.5 * 0.3)
    assert [b.recordings for b in reliability_bins(targets, probabilities, 2)] == [2, 2]


def test_bins_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(1000)
    targets = rng.random(1000) < probabilities**2
    for binning, strategy in (("equal_width", "uniform"), ("equal_mass", "quantile")):
        bins = reliability_bins(targets, probabilities, 10, binning)  # type: ignore[arg-type]
        observed, predicted = calibration_curve(targets, probabilities, n_bins=10, strategy=strategy)
        assert [b.predicted for b in bins] == pytest.approx(predicted.tolist(), abs=0.002)
        assert [b.observed for b in bins] == pytest.approx(observed.tolist(), abs=0.02)
    found = reliability(targets[:, None], probabilities[:, None], ["A"])["A"]
    assert found is not None
    assert found.brier == pytest.approx(brier_score_loss(targets, probabilities))
    assert (found.predicted, found.observed) == (pytest.approx(probabilities.mean()), targets.mean())


def test_true_probabilities_have_a_small_error_and_sharpened_ones_a_large_one() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((20_000, 1))
    targets = rng.random((20_000, 1)) < true
    sharpened = true**3 / (true**3 + (1 - true) ** 3)
    small, large = (reliability(targets, p, ["A"])["A"] for p in (true, sharpened))
    assert small is not None
    assert large is not None
    assert small.ece_equal_mass < 0.015
    assert 0.1 < large.ece_equal_mass < 0.3
    assert large.ece_equal_mass == pytest.approx(large.ece_equal_width, abs=0.01)


def test_ties_share_a_bin_and_constant_probabilities_have_one() -> None:
    targets = np.arange(30) < 6
    (bin,) = reliability_bins(targets, np.full(30, 0.5))
    assert (bin.recordings, bin.predicted, bin.observed) == (30, 0.5, pytest.approx(0.2))
    assert reliability_bins(np.zeros(0, bool), np.zeros(0)) == ()
    ends = reliability_bins(np.array([False, True]), np.array([0.0, 1.0]), binning="equal_width")
    assert [b.observed for b in ends] == [0.0, 1.0]


def test_the_top_label_of_exclusive_classes() -> None:
    targets = np.eye(3, dtype=bool)[[0, 1, 2, 0]]
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    found = top_label_reliability(targets, probabilities)
    assert found is not None
    assert (found.predicted, found.observed) == (pytest.approx(0.7), 0.75)
    assert top_label_reliability(np.zeros((0, 2), bool), np.zeros((0, 2))) is None


def test_labels_of_one_class_are_not_judged_and_nan_is_refused() -> None:
    found = reliability(np.array([[1, 0], [0, 0]]), np.array([[0.5, 0.5], [0.5, 0.5]]), ["A", "B"])
    assert found["B"] is None
    plain = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert plain["macro"]["brier"] == 0.25
    assert plain["per_label"]["B"] is None
    with pytest.raises(InputError, match="finite"):
        reliability(np.array([[1]]), np.array([[np.nan]]), ["A"])
