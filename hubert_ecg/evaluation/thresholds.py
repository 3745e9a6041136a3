"""Decision thresholds: the greatest F1, or the best specificity (sensitivity) at a required sensitivity (specificity).

Chosen on validation recordings; on others what was required holds only about. Shapes: N recordings, L labels.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import DEFAULT_THRESHOLD, checked, counts_above, max_f1_thresholds, middle_below


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """How thresholds are chosen."""

    kind: Literal["max_f1", "sensitivity", "specificity"]
    at_least: float | None = None
    """The sensitivity or specificity that is required."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`max_f1`, `sensitivity=0.9`, `specificity=0.95`. Raises ConfigError for anything else."""
        if text == "max_f1":
            return cls(kind="max_f1")
        name, _, value = text.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1 or name not in ("sensitivity", "specificity"):
            raise ConfigError(
                f"thresholds: wanted max_f1, sensitivity=SHARE or specificity=SHARE with a share above 0 and at most "
                f"1, got {text!r}"
            )
        return cls(kind="sensitivity" if name == "sensitivity" else "specificity", at_least=share)

    def choose(self, targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """[L] thresholds for [N, L] bool targets and [N, L] probabilities.

        Each lies half way between two neighbouring probabilities that occur. A label of one class gets
        `DEFAULT_THRESHOLD`. Raises InputError for what does not fit.
        """
        targets, probabilities = checked(targets, probabilities)
        if self.kind == "max_f1":
            return max_f1_thresholds(targets, probabilities)
        columns = zip(targets.T, probabilities.T, strict=True)
        return np.array([self._required(*column) for column in columns], dtype=np.float64)

    def _required(self, targets: np.ndarray, probabilities: np.ndarray) -> float:
        positives = int(targets.sum())
        if positives in (0, len(targets)) or self.at_least is None:
            return DEFAULT_THRESHOLD
        distinct, hits, predicted = counts_above(targets, probabilities)
        if self.kind == "sensitivity":
            # The highest threshold that finds enough; the last one finds all.
            return middle_below(distinct, int(np.argmax(hits >= self.at_least * positives - 1e-9)))
        passed = (predicted - hits) <= (1 - self.at_least) * (len(targets) - positives) + 1e-9
        if not passed[0]:
            # Even the highest probability raises too many alarms: nothing is predicted, not even 1.
            return float(np.nextafter(max(1.0, float(distinct[0])), 2.0))
        return middle_below(distinct, int(np.flatnonzero(passed)[-1]))
