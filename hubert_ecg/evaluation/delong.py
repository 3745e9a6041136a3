"""DeLong's test of two AUROCs on the same recordings, by midranks.

DeLong, DeLong and Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
Curves, Biometrics 1988; in O(N log N) by Sun and Xu, Fast Implementation of DeLong's Algorithm, IEEE Signal Processing
Letters 2014. It takes recordings for independent, which those of one patient are not.
Shapes: N recordings, P positives, M negatives of one label.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

from hubert_ecg.errors import InputError

MIN_OF_EACH_CLASS = 2
"""A variance needs two."""


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """Two AUROCs and the test of their difference."""

    first: float
    second: float
    variance_first: float
    variance_second: float
    covariance: float
    z: float | None
    """Difference over its standard error; None where that is 0."""
    p_value: float | None
    """Two-sided."""

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Of the difference first - second."""
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * self._variance**0.5
        return self.first - self.second - reach, self.first - self.second + reach

    @property
    def _variance(self) -> float:
        return max(0.0, self.variance_first + self.variance_second - 2 * self.covariance)


def delong_test(targets: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """[N] bool targets and two [N] scores. Raises InputError unless there are two of each class and all is finite."""
    targets = np.asarray(targets, bool)
    scores = np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    positives = int(targets.sum())
    if scores.shape[1:] != targets.shape or not np.isfinite(scores).all():
        raise InputError(f"DeLong: wanted two finite scores per recording, {targets.shape}, got {scores.shape[1:]}")
    if min(positives, len(targets) - positives) < MIN_OF_EACH_CLASS:
        raise InputError(
            f"DeLong: wanted at least {MIN_OF_EACH_CLASS} positives and negatives, got {positives} and "
            f"{len(targets) - positives}"
        )
    of_positives, of_negatives = _placements(targets, scores)
    areas = of_positives.mean(axis=1)
    covariance = np.cov(of_positives) / positives + np.cov(of_negatives) / (len(targets) - positives)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # Two classifiers that rank alike differ by rounding only.
    z = None if variance <= 1e-15 else float((areas[0] - areas[1]) / np.sqrt(variance))
    return DeLong(
        first=float(areas[0]),
        second=float(areas[1]),
        variance_first=float(covariance[0, 0]),
        variance_second=float(covariance[1, 1]),
        covariance=float(covariance[0, 1]),
        z=z,
        p_value=None if z is None else 2 * NormalDist().cdf(-abs(z)),
    )


def _placements(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[2, P] share of negatives below each positive, and [2, M] share of positives above each negative, ties half.

    A midrank among all less the midrank among its own class is the number of the other class below it.
    """
    own = {kind: scores[:, targets == kind] for kind in (True, False)}
    every = rankdata(scores, axis=1)
    below = {kind: every[:, targets == kind] - rankdata(own[kind], axis=1) for kind in (True, False)}
    return below[True] / own[False].shape[1], 1 - below[False] / own[True].shape[1]
