"""Metrics of a regression: errors, bias, R2 and correlation per output, over the recordings whose number is known.

Shapes: N recordings, L outputs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.bootstrap import check_draws, percentile_interval
from hubert_ecg.evaluation.resampling import Resampling


@dataclass(frozen=True, kw_only=True)
class OutputMetrics:
    """How well one number is predicted; None where it cannot be judged."""

    label: str
    recordings: int
    """Recordings whose number is known."""
    mae: float | None = None
    """Mean absolute error, in the number's own unit."""
    rmse: float | None = None
    """Root of the mean squared error, in the number's own unit."""
    bias: float | None = None
    """Mean of predicted less true: above 0 where too much is predicted."""
    r2: float | None = None
    """Coefficient of determination: 1 - squared error / squared deviation from the mean; None where all are equal."""
    correlation: float | None = None
    """Pearson's, of predicted and true; None where either never varies."""


@dataclass(frozen=True, kw_only=True)
class RegressionMetrics:
    """Metrics of all outputs over the same recordings."""

    recordings: int
    per_label: tuple[OutputMetrics, ...]

    @property
    def mean_r2(self) -> float | None:
        """Unweighted mean over the outputs that have an R2; None where none has."""
        values = [output.r2 for output in self.per_label if output.r2 is not None]
        return float(np.mean(values)) if values else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no NaN, None where there is no value."""
        return {
            "recordings": self.recordings,
            "mean_r2": self.mean_r2,
            "per_label": {output.label: asdict(output) for output in self.per_label},
        }


def evaluate_regression(targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> RegressionMetrics:
    """[N, L] targets, NaN where unknown, and [N, L] predictions, all known; InputError where they do not fit."""
    targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if targets.ndim != 2 or targets.shape != predictions.shape or targets.shape[1] != len(labels):
        raise InputError(
            f"wanted targets and predictions [N, {len(labels)}] of one shape, got {targets.shape} and "
            f"{predictions.shape}"
        )
    if not np.isfinite(predictions).all():
        raise InputError("predictions: wanted finite numbers, got others; look at the model's output")
    columns = zip(labels, targets.T, predictions.T, strict=True)
    return RegressionMetrics(recordings=len(targets), per_label=tuple(_judge(*column) for column in columns))


def regression_table(metrics: RegressionMetrics) -> str:
    """One line per output, aligned for a terminal: mean absolute error, R2, and recordings whose number is known."""
    rows = [("output", "MAE", "R2", "recordings")]
    rows += [(o.label, _number(o.mae), _number(o.r2), str(o.recordings)) for o in metrics.per_label]
    first = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{first}}  {mae:>10}  {r2:>7}  {count:>10}" for name, mae, r2, count in rows)


def regression_intervals(
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: Sequence[str],
    *,
    rng: np.random.Generator,
    patient_ids: Sequence[str | None] | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """Output -> metric (`mae`, `rmse`, `bias`, `r2`) -> interval as plain data: quantiles over draws of patients."""
    check_draws(draws, confidence)
    found: dict[str, dict[str, Any]] = {}
    for column, label in enumerate(labels):
        known = np.flatnonzero(np.isfinite(targets[:, column]))
        if len(known) < 2:
            found[label] = {}
            continue
        truth, made = targets[known, column], predictions[known, column]
        ids = None if patient_ids is None else [patient_ids[row] for row in known.tolist()]
        weights = [np.ones((len(known), 1), np.float32), *Resampling.of(len(known), ids).weights(rng, draws)]
        values = [_weighted(truth, made, times.astype(np.float64)) for times in weights]
        found[label] = {
            name: asdict(percentile_interval(float(values[0][name][0]), _joined(values, name), confidence))
            for name in values[0]
        }
    return found


def _weighted(truth: np.ndarray, made: np.ndarray, weights_ND: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> [D] of draws."""
    errors = made - truth
    total = weights_ND.sum(axis=0)
    squared = (errors**2) @ weights_ND
    deviation = (truth**2) @ weights_ND - (truth @ weights_ND) ** 2 / total
    return {
        "mae": np.abs(errors) @ weights_ND / total,
        "rmse": np.sqrt(squared / total),
        "bias": errors @ weights_ND / total,
        "r2": 1 - np.divide(squared, deviation, out=np.full(len(total), np.nan), where=deviation > 1e-9 * total),
    }


def _joined(values: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([of_chunk[name] for of_chunk in values[1:]])


def _judge(label: str, targets: np.ndarray, predictions: np.ndarray) -> OutputMetrics:
    known = np.isfinite(targets)
    truth, made = targets[known], predictions[known]
    errors = made - truth
    if not known.any():
        return OutputMetrics(label=label, recordings=0)
    spread = float(((truth - truth.mean()) ** 2).sum())
    varies = spread > 0 and bool(made.std() > 0)
    return OutputMetrics(
        label=label,
        recordings=int(known.sum()),
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt((errors**2).mean())),
        bias=float(errors.mean()),
        r2=1 - float((errors**2).sum()) / spread if spread > 0 else None,
        correlation=float(np.corrcoef(truth, made)[0, 1]) if varies else None,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
