"""Regression metrics by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.regression import evaluate_regression, regression_intervals, regression_table


def test_equal_to_scikit_learn_where_the_numbers_are_known() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(60, 15, (50, 2))
    predictions = targets + rng.normal(0, 5, (50, 2))
    targets[:7, 1] = np.nan
    metrics = evaluate_regression(targets, predictions, ("age", "rate"))
    age, rate = metrics.per_label
    assert (age.recordings, rate.recordings) == (50, 43)
    assert age.mae == pytest.approx(mean_absolute_error(targets[:, 0], predictions[:, 0]))
    assert age.rmse == pytest.approx(root_mean_squared_error(targets[:, 0], predictions[:, 0]))
    assert age.bias == pytest.approx(np.mean(predictions[:, 0] - targets[:, 0]))
    assert age.correlation == pytest.approx(np.corrcoef(targets[:, 0], predictions[:, 0])[0, 1])
    assert rate.r2 == pytest.approx(r2_score(targets[7:, 1], predictions[7:, 1]))
    assert metrics.mean_r2 == pytest.approx((age.r2 + rate.r2) / 2)


def test_what_cannot_be_judged_is_none_and_not_a_number() -> None:
    targets = np.array([[1.0, np.nan], [1.0, np.nan]])
    metrics = evaluate_regression(targets, np.array([[1.5, 0.0], [0.0, 0.0]]), ("constant", "unknown"))
    unknown = {"rmse": None, "correlation": None}
    assert metrics.to_dict()["per_label"] == {
        "constant": {"label": "constant", "recordings": 2, "mae": 0.75, "bias": -0.25, "r2": None}
        | unknown
        | {"rmse": pytest.approx(np.sqrt(0.625))},
        "unknown": {"label": "unknown", "recordings": 0, "mae": None, "bias": None, "r2": None} | unknown,
    }
    assert metrics.mean_r2 is None
    assert regression_table(metrics).splitlines()[1].split() == ["constant", "0.750", "-", "2"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        evaluate_regression(np.zeros((2, 1)), np.zeros((3, 1)), ("a",))
    with pytest.raises(InputError, match="finite"):
        evaluate_regression(np.zeros((1, 1)), np.full((1, 1), np.nan), ("a",))


def test_intervals_are_quantiles_over_draws_of_patients() -> None:
    """Unit normal errors of 400 patients with two equal recordings each: the mean absolute error has a known spread."""
    rng = np.random.default_rng(1)
    truth = rng.normal(60, 15, (400, 1)).repeat(2, axis=0)
    made = truth + rng.normal(size=(400, 1)).repeat(2, axis=0)
    ids = [str(row // 2) for row in range(800)]
    found = regression_intervals(truth, made, ("age",), rng=rng, patient_ids=ids)["age"]
    assert found["mae"]["estimate"] == pytest.approx(mean_absolute_error(truth, made))
    assert found["rmse"]["estimate"] == pytest.approx(root_mean_squared_error(truth, made))
    assert found["r2"]["estimate"] == pytest.approx(r2_score(truth, made))
    standard_error = np.sqrt(1 - 2 / np.pi) / np.sqrt(400)
    assert found["mae"]["upper"] - found["mae"]["lower"] == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    unknown = regression_intervals(np.full((3, 1), np.nan), np.zeros((3, 1)), ("age",), rng=rng)
    assert unknown == {"age": {}}
