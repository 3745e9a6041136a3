"""Metrics of multi-label classification per label and their macro averages, and thresholds that maximise F1.

Shapes: N recordings, L labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import rankdata

from hubert_ecg.errors import InputError

DEFAULT_THRESHOLD = 0.5
"""For a label whose threshold cannot be chosen."""


@dataclass(frozen=True, kw_only=True)
class MetricValues:
    """One value per metric, each None where it cannot be judged."""

    auroc: float | None = None
    """Area under the receiver operating characteristic: P(a positive scores above a negative), ties counted half."""
    auprc: float | None = None
    """Average precision, the step-wise area under the precision-recall curve."""
    f1: float | None = None
    """Harmonic mean of precision and recall; 0 where nothing is predicted rightly."""
    precision: float | None = None
    """Share of the predicted that are positive; 0 where nothing is predicted."""
    recall: float | None = None
    """Share of the positive that are predicted (sensitivity)."""
    specificity: float | None = None
    """Share of the negative that are not predicted."""
    accuracy: float | None = None
    """Share of recordings judged rightly."""


METRICS = tuple(field.name for field in fields(MetricValues))


@dataclass(frozen=True, kw_only=True)
class LabelMetrics(MetricValues):
    """The metrics of one label; all None where it is too rare to judge."""

    label: str
    positives: int
    """Recordings that have it."""
    negatives: int
    """Recordings that do not."""
    threshold: float | None
    """Probability from which on it counts as predicted; None where that was decided otherwise."""

    @property
    def too_rare(self) -> bool:
        """Whether one class only is there, so that no metric means anything."""
        return self.positives == 0 or self.negatives == 0


@dataclass(frozen=True, kw_only=True)
class MultiLabelMetrics:
    """Metrics of all labels over the same recordings."""

    recordings: int
    per_label: tuple[LabelMetrics, ...]
    macro: MetricValues
    """Unweighted means over the labels that can be judged."""

    @property
    def too_rare(self) -> tuple[str, ...]:
        """Labels with no positive or no negative recording; no part of the macro averages."""
        return tuple(metrics.label for metrics in self.per_label if metrics.too_rare)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no NaN, None where there is no value."""
        return {
            "recordings": self.recordings,
            "macro": asdict(self.macro),
            "per_label": {metrics.label: asdict(metrics) for metrics in self.per_label},
            "too_rare_to_judge": list(self.too_rare),
        }


def evaluate_multi_label(
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    thresholds: np.ndarray | Sequence[float] | None = None,
    *,
    predicted: np.ndarray | None = None,
) -> MultiLabelMetrics:
    """All metrics of `METRICS` for [N, L] bool targets and [N, L] probabilities; thresholds [L], 0.5 by default.

    A recording is predicted to have a label when its probability is at or above the label's threshold, or as
    `predicted` [N, L] bool says (for classes of which the most probable is predicted). Labels with no positive or no
    negative have no metrics and stay out of the macro averages.

    Raises InputError for shapes that do not fit, NaN, or values outside 0 to 1.
    """
    targets, probabilities = checked(targets, probabilities, labels)
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise InputError(
            f"probabilities: wanted values from 0 to 1, got {probabilities.min():g} to {probabilities.max():g}; "
            "pass scores through a sigmoid"
        )
    limits = np.full(len(labels), DEFAULT_THRESHOLD) if thresholds is None else np.asarray(thresholds, np.float64)
    if limits.shape != (len(labels),) or not np.isfinite(limits).all():
        raise InputError(
            f"thresholds: wanted one finite number for each of {len(labels)} labels, got {limits.tolist()}"
        )
    auroc = auroc_per_label(targets, probabilities)
    decided = probabilities >= limits if predicted is None else np.asarray(predicted, bool)
    if decided.shape != targets.shape:
        raise InputError(f"predicted: wanted shape {targets.shape}, got {decided.shape}")
    shown: list[float | None] = [None] * len(labels) if predicted is not None else limits.tolist()
    per_label = tuple(
        _label_metrics(label, targets[:, c], probabilities[:, c], decided[:, c], shown[c], auroc[c])
        for c, label in enumerate(labels)
    )
    judged = [metrics for metrics in per_label if not metrics.too_rare]
    means = {name: float(np.mean([getattr(m, name) for m in judged])) if judged else None for name in METRICS}
    return MultiLabelMetrics(recordings=len(targets), per_label=per_label, macro=MetricValues(**means))


def auroc_per_label(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """[L] float64 areas under the ROC curve of [N, L] bool targets and [N, L] scores; NaN where one class is absent.

    By ranks (Mann and Whitney), ties at their mean rank, all labels at once.
    """
    if len(targets) == 0:
        return np.full(targets.shape[1], np.nan)
    return auroc_from_ranks(targets, rankdata(scores, axis=0))


def auroc_from_ranks(targets: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """[L] areas from [N, L] bool targets and the [N, L] ranks of their scores, so that ranks can be used again."""
    positives = targets.sum(axis=0).astype(np.float64)
    negatives = len(targets) - positives
    wins = np.einsum("nl,nl->l", targets.astype(np.float64), ranks) - positives * (positives + 1) / 2
    pairs = positives * negatives
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def precision_recall_curve(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of [N] bool targets and [N] scores at every distinct score, the highest first."""
    _, hits, predicted = counts_above(targets, scores)
    return hits / hits[-1], hits / predicted


def roc_curve(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of [N] bool targets and [N] scores, from (0, 0) to (1, 1), a step per score."""
    _, hits, predicted = counts_above(targets, scores)
    hits, alarms = np.append(0, hits), np.append(0, predicted - hits)
    return alarms / alarms[-1], hits / hits[-1]


def max_f1_thresholds(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """[L] thresholds that maximise F1 on these recordings (validation, say), [N, L] bool and [N, L] probabilities.

    Each lies half way between two neighbouring probabilities that occur; of equal F1 the highest is taken. A label
    without positives or without negatives gets `DEFAULT_THRESHOLD`. Raises InputError as `evaluate_multi_label`.
    """
    targets, probabilities = checked(targets, probabilities)
    columns = range(targets.shape[1])
    return np.array([_max_f1_threshold(targets[:, c], probabilities[:, c]) for c in columns], dtype=np.float64)


def checked(
    targets: np.ndarray, scores: np.ndarray, labels: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Targets as [N, L] bool and scores as [N, L] float64. Raises InputError where they do not fit or hold NaN."""
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    if targets.ndim != 2 or targets.shape != scores.shape or (labels is not None and targets.shape[1] != len(labels)):
        wanted = "L" if labels is None else str(len(labels))
        raise InputError(
            f"wanted targets and scores [N, {wanted}] of one shape, got {targets.shape} and {scores.shape}"
        )
    if targets.dtype != bool and not np.isin(targets, (0, 1)).all():
        raise InputError(f"targets: wanted true or false, got other values of dtype {targets.dtype}")
    unfit = ~np.isfinite(scores)
    if unfit.any():
        row, column = np.argwhere(unfit)[0]
        name = labels[column] if labels is not None else f"label {column}"
        raise InputError(
            f"scores: wanted finite numbers, got {int(unfit.sum())} that are not, the first for {name} of recording "
            f"{row}; look at the model's output"
        )
    return targets.astype(bool), scores


def _label_metrics(
    label: str,
    targets: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    threshold: float | None,
    auroc: float,
) -> LabelMetrics:
    """[N] bool, [N] probabilities, [N] bool -> the metrics of one label."""
    positives = int(targets.sum())
    negatives = len(targets) - positives
    values: dict[str, float] = {}
    if positives and negatives:
        hits, alarms = int((predicted & targets).sum()), int((predicted & ~targets).sum())
        values = {
            "auroc": float(auroc),
            "auprc": _average_precision(targets, probabilities),
            "f1": 2 * hits / (hits + alarms + positives),
            "precision": hits / max(hits + alarms, 1),
            "recall": hits / positives,
            "specificity": 1 - alarms / negatives,
            "accuracy": (hits + negatives - alarms) / len(targets),
        }
    return LabelMetrics(label=label, positives=positives, negatives=negatives, threshold=threshold, **values)


def counts_above(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, highest first, with the positives and the recordings at or above each."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return scores[order][ends], np.cumsum(targets[order])[ends], ends + 1


def _average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    _, hits, predicted = counts_above(targets, scores)
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / predicted))


def _max_f1_threshold(targets: np.ndarray, probabilities: np.ndarray) -> float:
    positives = int(targets.sum())
    if positives in (0, len(targets)):
        return DEFAULT_THRESHOLD
    distinct, hits, predicted = counts_above(targets, probabilities)
    return middle_below(distinct, int(np.argmax(2 * hits / (predicted + positives))))


def middle_below(distinct: np.ndarray, last: int) -> float:
    """A threshold that predicts the recordings of scores `distinct[: last + 1]`, highest first, and no others."""
    if last + 1 == len(distinct):
        return float(distinct[last])
    middle = float((distinct[last] + distinct[last + 1]) / 2)
    # Between neighbouring floats there is no middle: rounding may give the lower one, which must not be predicted.
    return middle if middle > distinct[last + 1] else float(distinct[last])
