"""Metrics of resampled recordings: every label is sorted once, and a draw is a weight per recording.

Shapes: N recordings, L labels, D draws, P positives of a label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hubert_ecg.evaluation.metrics import METRICS


@dataclass(frozen=True, kw_only=True)
class SortedLabel:
    """What sorting one label's scores gives, once for all draws. Positives by descending score."""

    rows: np.ndarray
    """[N] all rows by descending score."""
    positive_rows: np.ndarray
    """[P] rows of the positives by descending score."""
    above: np.ndarray
    """[P] recordings that score higher than each positive."""
    from_up: np.ndarray
    """[P] recordings that score as high or higher."""
    positives_above: np.ndarray
    """[P] positives that score higher."""
    positives_from_up: np.ndarray
    """[P] positives that score as high or higher."""

    @staticmethod
    def of(targets: np.ndarray, scores: np.ndarray) -> "SortedLabel":
        """[N] bool, [N] scores."""
        rows = np.argsort(-scores, kind="stable")
        positive_rows = rows[targets[rows]]
        falling, positive_falling = -scores[rows], -scores[positive_rows]
        return SortedLabel(
            rows=rows,
            positive_rows=positive_rows,
            above=np.searchsorted(falling, positive_falling, side="left"),
            from_up=np.searchsorted(falling, positive_falling, side="right"),
            positives_above=np.searchsorted(positive_falling, positive_falling, side="left"),
            positives_from_up=np.searchsorted(positive_falling, positive_falling, side="right"),
        )

    def areas(self, weights_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[D] AUROC, ties half, and [D] average precision; NaN in draws that lack one of the classes.

        Weights are float32 whole numbers, whose sums are exact below 16 million.
        """
        every = _sums(weights_ND[self.rows])
        weights_PD = weights_ND[self.positive_rows]
        positive = _sums(weights_PD)
        negatives_D = every[-1] - positive[-1]
        hits = positive[self.positives_from_up]
        predicted = every[self.from_up]
        # Negatives that score higher than a positive, and those that score as high or higher, beat it or tie with it.
        beating = predicted - hits
        beating += every[self.above] - positive[self.positives_above]
        pairs_D = positive[-1].astype(np.float64) * negatives_D
        lost_D = np.einsum("pd,pd->d", weights_PD, beating, dtype=np.float64) / 2
        # A positive that was not drawn has a weight of 0, and may stand where nothing else was drawn either.
        precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
        found_D = np.einsum("pd,pd->d", weights_PD, precision, dtype=np.float64)
        known = pairs_D > 0
        auroc = 1 - np.divide(lost_D, pairs_D, out=np.full(len(pairs_D), np.nan), where=known)
        auprc = np.divide(found_D, positive[-1], out=np.full(len(pairs_D), np.nan), where=known)
        return auroc, auprc


class WeightedMetrics:
    """All metrics of `METRICS` for some labels, over weighted recordings."""

    def __init__(self, targets: np.ndarray, scores: np.ndarray, predicted: np.ndarray | None) -> None:
        """[N, L] bool, [N, L] scores, [N, L] bool; without predictions the two areas only."""
        self.sorted = [SortedLabel.of(*column) for column in zip(targets.T, scores.T, strict=True)]
        self.names: Sequence[str] = METRICS if predicted is not None else ("auroc", "auprc")
        self.targets = targets.astype(np.float32)
        self.predicted = None if predicted is None else predicted.astype(np.float32)
        self.hits = None if predicted is None else (predicted & targets).astype(np.float32)

    def of(self, weights_ND: np.ndarray) -> dict[str, np.ndarray]:
        """Metric -> [D, L] of draws given by their weights [N, D]; NaN in draws that lack one of a label's classes."""
        areas = [label.areas(weights_ND) for label in self.sorted]
        shape = (weights_ND.shape[1], len(self.sorted))
        auroc, auprc = (np.stack(columns, axis=1) if columns else np.zeros(shape) for columns in _unzip(areas))
        found = {"auroc": auroc, "auprc": auprc}
        if self.predicted is None or self.hits is None:
            return found
        weights_DN = weights_ND.T
        total = weights_DN.sum(axis=1, dtype=np.float64)[:, None]
        positives, predicted, hits = (
            (weights_DN @ counted).astype(np.float64) for counted in (self.targets, self.predicted, self.hits)
        )
        positives[np.isnan(auroc)] = np.nan
        negatives, alarms = total - positives, predicted - hits
        return found | {
            "f1": 2 * hits / (predicted + positives),
            "precision": np.where(np.isnan(positives), np.nan, hits / np.maximum(predicted, 1)),
            "recall": hits / positives,
            "specificity": 1 - alarms / negatives,
            "accuracy": (hits + negatives - alarms) / total,
        }


def _sums(weights_ND: np.ndarray) -> np.ndarray:
    """[N + 1, D] sums of the first 0, 1, ... N rows."""
    sums = np.zeros((len(weights_ND) + 1, weights_ND.shape[1]), dtype=np.float32)
    np.cumsum(weights_ND, axis=0, out=sums[1:])
    return sums


def _unzip(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
