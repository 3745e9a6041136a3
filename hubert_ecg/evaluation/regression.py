"""Metrics of a regression: mean absolute error and R2 per output, over the recordings whose number is known.

Shapes: N recordings, L outputs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hubert_ecg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OutputMetrics:
    """How well one number is predicted; None where it cannot be judged."""

    label: str
    recordings: int
    """Recordings whose number is known."""
    mae: float | None = None
    """Mean absolute error, in the number's own unit."""
    r2: float | None = None
    """Coefficient of determination: 1 - squared error / squared deviation from the mean; None where all are equal."""


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


def _judge(label: str, targets: np.ndarray, predictions: np.ndarray) -> OutputMetrics:
    known = np.isfinite(targets)
    errors = predictions[known] - targets[known]
    if not known.any():
        return OutputMetrics(label=label, recordings=0)
    spread = float(((targets[known] - targets[known].mean()) ** 2).sum())
    return OutputMetrics(
        label=label,
        recordings=int(known.sum()),
        mae=float(np.abs(errors).mean()),
        r2=1 - float((errors**2).sum()) / spread if spread > 0 else None,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
