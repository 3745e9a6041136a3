"""Regression metrics by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.regression import evaluate_regression, regression_table


def test_equal_to_scikit_learn_where_the_numbers_are_known() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(60, 15, (50, 2))
    predictions = targets + rng.normal(0, 5, (50, 2))
    targets[:7, 1] = np.nan
    metrics = evaluate_regression(targets, predictions, ("age", "rate"))
    age, rate = metrics.per_label
    assert (age.recordings, rate.recordings) == (50, 43)
    assert age.mae == pytest.approx(mean_absolute_error(targets[:, 0], predictions[:, 0]))
    assert rate.r2 == pytest.approx(r2_score(targets[7:, 1], predictions[7:, 1]))
    assert metrics.mean_r2 == pytest.approx((age.r2 + rate.r2) / 2)


def test_what_cannot_be_judged_is_none_and_not_a_number() -> None:
    targets = np.array([[1.0, np.nan], [1.0, np.nan]])
    metrics = evaluate_regression(targets, np.array([[1.5, 0.0], [0.0, 0.0]]), ("constant", "unknown"))
    assert metrics.to_dict()["per_label"] == {
        "constant": {"label": "constant", "recordings": 2, "mae": 0.75, "r2": None},
        "unknown": {"label": "unknown", "recordings": 0, "mae": None, "r2": None},
    }
    assert metrics.mean_r2 is None
    assert regression_table(metrics).splitlines()[1].split() == ["constant", "0.750", "-", "2"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        evaluate_regression(np.zeros((2, 1)), np.zeros((3, 1)), ("a",))
    with pytest.raises(InputError, match="finite"):
        evaluate_regression(np.zeros((1, 1)), np.full((1, 1), np.nan), ("a",))
