"""Calibration: the parameters that made the data come back, scikit-learn agrees, ranking stays, JSON round trip."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.evaluation.calibration import Calibration, Method, unfitted_labels


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


def logit(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities / (1 - probabilities))


def drawn(rng: np.random.Generator, count: int, slope: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """[N, 1] probabilities, and targets whose true probability is sigmoid(slope * logit + offset)."""
    logits = rng.normal(scale=2, size=(count, 1))
    return sigmoid(logits), rng.random((count, 1)) < sigmoid(slope * logits + offset)


def test_a_temperature_of_two_comes_back() -> None:
    probabilities, targets = drawn(np.random.default_rng(0), 40_000, 0.5, 0.0)
    calibration = Calibration.fit(probabilities, targets, "temperature")
    assert 1 / calibration.slopes[0] == pytest.approx(2, rel=0.05)
    np.testing.assert_allclose(calibration.apply(np.array([[0.8]])), sigmoid(calibration.slopes[0] * logit(0.8)))


def test_platts_numbers_come_back_and_equal_a_logistic_regression_on_his_targets() -> None:
    probabilities, targets = drawn(np.random.default_rng(1), 3000, 0.7, -1.2)
    calibration = Calibration.fit(probabilities, targets, "platt")
    assert (calibration.slopes[0], calibration.offsets[0]) == pytest.approx((0.7, -1.2), abs=0.2)
    # A target of t is t recordings that are positive and 1 - t that are not.
    positives = int(targets.sum())
    smooth = np.where(targets[:, 0], (positives + 1) / (positives + 2), 1 / (3000 - positives + 2))
    logits = np.repeat(logit(probabilities), 2, axis=0)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(logits, np.tile([True, False], 3000), sample_weight=np.stack([smooth, 1 - smooth], axis=1).reshape(-1))
    expected = (model.coef_[0, 0], model.intercept_[0])
    assert (calibration.slopes[0], calibration.offsets[0]) == pytest.approx(expected, abs=1e-4)


def test_isotonic_regression_equals_scikit_learns_and_is_constant_outside() -> None:
    probabilities, targets = drawn(np.random.default_rng(2), 500, 0.5, 0.5)
    calibration = Calibration.fit(probabilities, targets, "isotonic")
    oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probabilities[:, 0], targets[:, 0])
    asked = np.linspace(0, 1, 201)[:, None]
    np.testing.assert_allclose(calibration.apply(asked)[:, 0], oracle.predict(asked[:, 0]), atol=1e-12)


def test_the_temperature_of_exclusive_classes_comes_back_and_probabilities_add_up() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(30_000, 4))

    def softmax(scores: np.ndarray) -> np.ndarray:
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    true = softmax(logits / 3)
    classes = (rng.random((30_000, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=3)
    calibration = Calibration.fit(softmax(logits), np.eye(4, dtype=bool)[classes], "temperature", exclusive=True)
    assert 1 / calibration.slopes[0] == pytest.approx(3, rel=0.05)
    found = calibration.apply(softmax(logits))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.abs(found - true).max() < 0.03


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_each_label_has_its_own_map_a_rare_one_none_and_order_is_kept(method: Method) -> None:
    rng = np.random.default_rng(4)
    columns = [drawn(rng, 600, slope, offset) for slope, offset in ((0.5, 0.0), (2.0, 0.5), (1.0, 0.0))]
    probabilities, targets = (np.concatenate(parts, axis=1) for parts in zip(*columns, strict=True))
    targets[5:, 2] = False
    calibration = Calibration.fit(probabilities, targets, method)
    assert calibration.fitted == (True, True, False)
    assert unfitted_labels(calibration, ["A", "B", "C"]) == ["C"]
    found = calibration.apply(probabilities.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 2], probabilities[:, 2], atol=1e-7)
    for column in range(3):
        steps = np.diff(found[np.argsort(probabilities[:, column]), column])
        assert (steps >= 0).all() if method == "isotonic" else (steps > -1e-7).all()


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_json_gives_back_the_same_numbers(method: Method) -> None:
    calibration = Calibration.fit(*drawn(np.random.default_rng(5), 300, 0.5, 0.3), method)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert again == calibration
    asked = np.array([[0.0], [1e-9], [0.3], [1.0]])
    np.testing.assert_array_equal(again.apply(asked), calibration.apply(asked))
    assert np.isfinite(again.apply(asked)).all()


def test_a_classifier_worse_than_chance_is_flattened_and_not_turned_round() -> None:
    probabilities, targets = drawn(np.random.default_rng(6), 500, -1.0, 0.0)
    for method in ("temperature", "platt"):
        assert Calibration.fit(probabilities, targets, method).slopes[0] == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(
    ("probabilities", "targets", "settings", "error"),
    [
        (np.array([[np.nan]]), np.array([[1]]), {}, InputError),
        (np.array([[1.5]]), np.array([[1]]), {}, InputError),
        (np.array([[0.5]]), np.array([[1, 0]]), {}, InputError),
        (np.array([[0.5]]), np.array([[1]]), {"method": "magic"}, ConfigError),
        (np.array([[0.5, 0.5]]), np.array([[1, 0]]), {"method": "platt", "exclusive": True}, ConfigError),
        (np.array([[0.5, 0.5]]), np.array([[1, 1]]), {"exclusive": True}, InputError),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    probabilities: np.ndarray, targets: np.ndarray, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Calibration.fit(probabilities, targets, **({"method": "temperature"} | settings))


def test_what_was_not_written_by_it_is_refused() -> None:
    calibration = Calibration.fit(*drawn(np.random.default_rng(7), 100, 1.0, 0.0), "platt")
    for value in ({}, calibration.to_json() | {"method": "magic"}, calibration.to_json() | {"more": 1}):
        with pytest.raises(InputError, match="calibration"):
            Calibration.from_json(value)
    with pytest.raises(InputError, match=r"wanted probabilities \[N, 1\]"):
        calibration.apply(np.zeros((3, 2)))
