"""Calibration: from probabilities that rank recordings well to probabilities that mean what they say.

Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Platt scaling with his smoothed
targets: Platt, Probabilistic Outputs for Support Vector Machines, 1999. Isotonic regression: Zadrozny and Elkan,
Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002.
Fitted on validation recordings; what is stored is plain JSON. Shapes: N recordings, L labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.evaluation.metrics import checked

Method = Literal["temperature", "platt", "isotonic"]

MIN_OF_EACH_CLASS = {"temperature": 10, "platt": 10, "isotonic": 50}
"""Positives, and negatives, that a label needs to be fitted; with fewer it stays as it is. A step function has more to
choose than two numbers, and fits noise where there is little else."""

_LOWEST, _HIGHEST = 1e-12, 1 - 2.0**-24
"""Probabilities are kept between these where their logarithm is taken; the upper is the greatest float32 below 1."""
_STEEPEST, _FLATTEST = 20.0, 0.05
"""Bounds of a slope. Both are positive, so that calibration never turns a ranking round."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A map of each label's probability, or, for classes that exclude one another, of all of them together.

    `temperature` and `platt`: sigmoid(slope * logit(p) + offset), with no offset for a temperature of 1 / slope.
    `isotonic`: straight lines between knots. `temperature` of exclusive classes: softmax(slope * log p).
    Temperature and Platt scaling keep the order of recordings; isotonic regression may make neighbours equal, which
    changes AUROC a little.
    """

    method: Method
    exclusive: bool
    """Whether the labels are classes of which each recording has one; they then share one slope."""
    slopes: tuple[float, ...] = ()
    """One per label; one in all for exclusive classes; none for `isotonic`."""
    offsets: tuple[float, ...] = ()
    """One per label; none for `isotonic` and exclusive classes."""
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    """`isotonic`: per label ascending probabilities, and what becomes of them."""
    fitted: tuple[bool, ...]
    """Per label whether there were enough recordings to fit it; otherwise its probabilities stay as they are."""

    @classmethod
    def fit(
        cls, probabilities_NL: np.ndarray, targets_NL: np.ndarray, method: Method, *, exclusive: bool = False
    ) -> Self:
        """From validation recordings: probabilities, and bool targets.

        Raises InputError for shapes that do not fit, NaN or values outside 0 to 1, ConfigError for a method that does
        not exist or does not apply to exclusive classes.
        """
        if method not in get_args(Method):
            raise ConfigError(f"calibration: wanted a method of {', '.join(get_args(Method))}, got {method!r}")
        targets, probabilities = checked(targets_NL, probabilities_NL)
        _check_range(probabilities)
        positives = targets.sum(axis=0)
        enough = np.minimum(positives, len(targets) - positives) >= MIN_OF_EACH_CLASS[method]
        if exclusive:
            if method != "temperature":
                raise ConfigError(
                    f"calibration: wanted the method temperature for classes that exclude one another, got {method}"
                )
            return cls._fit_exclusive(probabilities, targets)
        columns = zip(probabilities.T, targets.T, enough, strict=True)
        fitted = tuple(bool(label) for label in enough)
        if method == "isotonic":
            knots = tuple(_isotonic(*column[:2]) if column[2] else _STRAIGHT for column in columns)
            return cls(method=method, exclusive=False, knots=knots, fitted=fitted)
        fit_one = _temperature if method == "temperature" else _platt
        pairs = [fit_one(*column[:2]) if column[2] else (1.0, 0.0) for column in columns]
        slopes, offsets = (tuple(values) for values in zip(*pairs, strict=True)) if pairs else ((), ())
        return cls(method=method, exclusive=False, slopes=slopes, offsets=offsets, fitted=fitted)

    @classmethod
    def _fit_exclusive(cls, probabilities: np.ndarray, targets: np.ndarray) -> Self:
        if (targets.sum(axis=1) != 1).any():
            raise InputError(
                "calibration: wanted exactly one class per recording, got others; choose another label set"
            )
        enough = len(targets) >= 2 * MIN_OF_EACH_CLASS["temperature"]
        slope = _fit_slope(lambda slope: _softmax_loss(slope, probabilities, targets)) if enough else 1.0
        fitted = (bool(enough),) * targets.shape[1]
        return cls(method="temperature", exclusive=True, slopes=(slope,), fitted=fitted)

    def apply(self, probabilities_NL: np.ndarray) -> np.ndarray:
        """[N, L] -> [N, L] calibrated, of the same dtype. Raises InputError for another number of labels."""
        given = np.asarray(probabilities_NL)
        if given.ndim != 2 or given.shape[1] != len(self.fitted):
            raise InputError(f"calibration: wanted probabilities [N, {len(self.fitted)}], got shape {given.shape}")
        probabilities = given.astype(np.float64)
        if self.exclusive:
            found = _softmax(self.slopes[0] * np.log(np.maximum(probabilities, _LOWEST)))
        elif self.method == "isotonic":
            columns = [np.interp(p, *knots) for p, knots in zip(probabilities.T, self.knots, strict=True)]
            found = np.stack(columns, axis=1) if columns else probabilities
        else:
            scaled = _sigmoid(np.array(self.slopes) * _logit(probabilities) + np.array(self.offsets))
            found = np.where(self.fitted, scaled, probabilities)
        return found.astype(given.dtype if np.issubdtype(given.dtype, np.floating) else np.float64)

    def to_json(self) -> dict[str, Any]:
        """A JSON value, which `from_json` turns back."""
        plain = asdict(self)
        plain["knots"] = [[list(axis) for axis in knots] for knots in self.knots]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Raises InputError for anything that `to_json` would not have written."""
        known = {item.name for item in fields(cls)}
        if not isinstance(value, dict) or set(value) != known or value["method"] not in get_args(Method):
            raise InputError(
                f"calibration: wanted a method and its numbers ({', '.join(sorted(known))}), got {value!r}"
            )
        knots = tuple((tuple(of_label[0]), tuple(of_label[1])) for of_label in value["knots"])
        rest = {name: tuple(value[name]) for name in ("slopes", "offsets", "fitted")}
        return cls(method=value["method"], exclusive=bool(value["exclusive"]), knots=knots, **rest)


_STRAIGHT = ((0.0, 1.0), (0.0, 1.0))
"""Knots that change nothing."""


def _check_range(probabilities: np.ndarray) -> None:
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise InputError(
            f"probabilities: wanted values from 0 to 1, got {probabilities.min():g} to {probabilities.max():g}; "
            "pass scores through a sigmoid"
        )


def _temperature(probabilities: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """(slope, 0) of one label [N] with the least log loss."""
    logits = _logit(probabilities)
    return _fit_slope(lambda slope: _log_loss(slope * logits, targets.astype(np.float64))), 0.0


def _platt(probabilities: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """(slope, offset) of one label [N] with the least log loss against Platt's targets, drawn in from 0 and 1."""
    from scipy.optimize import minimize

    logits = _logit(probabilities)
    positives = int(targets.sum())
    smooth = np.where(targets, (positives + 1) / (positives + 2), 1 / (len(targets) - positives + 2))

    def loss(parameters: np.ndarray) -> float:
        return _log_loss(parameters[0] * logits + parameters[1], smooth)

    def gradient(parameters: np.ndarray) -> np.ndarray:
        wrong = _sigmoid(parameters[0] * logits + parameters[1]) - smooth
        return np.array([(wrong * logits).mean(), wrong.mean()])

    bounds = [(_FLATTEST, _STEEPEST), (None, None)]
    start = np.array([1.0, 0.0])
    found = minimize(loss, start, jac=gradient, bounds=bounds, method="L-BFGS-B", tol=1e-12)
    return float(found.x[0]), float(found.x[1])


def _isotonic(probabilities: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The knots of the non-decreasing function nearest to the targets [N] in squares; constant outside of them."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1).fit(probabilities, targets.astype(np.float64))
    x, y = np.atleast_1d(fitted.X_thresholds_), np.atleast_1d(fitted.y_thresholds_)
    return tuple(x.tolist()), tuple(y.tolist())


def _fit_slope(loss: Callable[[float], float]) -> float:
    """The slope within bounds of the least loss, which is convex in it; searched over its logarithm."""
    from scipy.optimize import minimize_scalar

    bounds = (np.log(_FLATTEST), np.log(_STEEPEST))
    found = minimize_scalar(
        lambda log: loss(float(np.exp(log))), bounds=bounds, method="bounded", options={"xatol": 1e-8}
    )
    return float(np.exp(found.x))


def _softmax_loss(slope: float, probabilities: np.ndarray, targets: np.ndarray) -> float:
    scaled = _softmax(slope * np.log(np.maximum(probabilities, _LOWEST)))
    return float(-np.log(np.maximum(scaled[targets], _LOWEST)).mean())


def _log_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of -t log sigmoid(s) - (1 - t) log (1 - sigmoid(s)), without overflow."""
    return float((np.logaddexp(0, scores) - targets * scores).mean())


def _logit(probabilities: np.ndarray) -> np.ndarray:
    inside = np.clip(probabilities, _LOWEST, _HIGHEST)
    logits: np.ndarray = np.log(inside) - np.log1p(-inside)
    return logits


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.exp(-np.logaddexp(0, -scores))
    return found


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def unfitted_labels(calibration: Calibration, labels: Sequence[str]) -> list[str]:
    """The labels whose probabilities calibration leaves as they are, for want of recordings."""
    return [label for label, fitted in zip(labels, calibration.fitted, strict=True) if not fitted]
