"""Percentile bootstrap intervals for AUROC, resampling patients rather than recordings where they are known.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993. Patients are drawn because the recordings of one person
are alike. A draw is a weight per recording, so that each label is sorted once, not once per draw. Resampling cannot see
beyond the sample: the interval of an AUROC of exactly 1 has no width, and one from few positives is too narrow.
Shapes: N recordings, L labels, D draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import auroc_per_label, checked

_CELLS_PER_CHUNK = 4_000_000
"""Weights in memory at once; bounds it to some tens of MB whatever the number of recordings."""
MIN_USABLE_DRAWS = 40
"""The fewest draws whose 2.5 and 97.5 % quantiles are not simply the extremes."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval; None where too few draws could be judged."""

    estimate: float | None
    """The value on the recordings as they are."""
    lower: float | None
    upper: float | None
    draws: int
    """Draws that the interval rests on: those in which both classes were there (for the macro: of every label)."""


@dataclass(frozen=True, kw_only=True)
class AurocIntervals:
    """AUROC with intervals, per label and macro."""

    per_label: dict[str, Interval]
    macro: Interval
    """Of the mean over the labels that can be judged. Draws in which such a label has one class only are left out."""
    confidence: float
    """Share of intervals that are to hold the true value."""
    draws: int
    """Draws made."""
    resampled: str
    """`patients` or `recordings`: what was drawn with replacement."""
    groups: int
    """How many of those there are."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def bootstrap_auroc(
    targets: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    *,
    rng: np.random.Generator,
    patient_ids: Sequence[str | None] | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
) -> AurocIntervals:
    """Intervals for [N, L] bool targets and [N, L] scores. A recording without patient id is a patient of its own.

    Raises InputError for shapes that do not fit or NaN, ConfigError for impossible `draws` or `confidence`.
    """
    targets, scores = checked(targets, scores, labels)
    if draws < MIN_USABLE_DRAWS or not 0 < confidence < 1:
        raise ConfigError(
            f"wanted at least {MIN_USABLE_DRAWS} draws and a confidence between 0 and 1, got {draws} and {confidence}"
        )
    group_of, num_groups = _groups(patient_ids, len(targets))
    estimates = auroc_per_label(targets, scores)
    judged = np.flatnonzero(~np.isnan(estimates))
    curves = {column: _SortedLabel.of(targets[:, column], scores[:, column]) for column in judged}
    drawn = np.full((draws, len(labels)), np.nan)
    chunk = max(1, _CELLS_PER_CHUNK // max(len(targets), 1))
    for start, weights_ND in _weight_chunks(rng, group_of, num_groups, draws, chunk):
        for column, curve in curves.items():
            drawn[start : start + chunk, column] = curve.auroc(weights_ND)
    macro = drawn[:, judged].mean(axis=1) if len(judged) else np.full(draws, np.nan)
    return AurocIntervals(
        per_label={label: _interval(estimates[c], drawn[:, c], confidence) for c, label in enumerate(labels)},
        macro=_interval(estimates[judged].mean() if len(judged) else np.nan, macro, confidence),
        confidence=confidence,
        draws=draws,
        resampled="recordings" if num_groups == len(targets) else "patients",
        groups=num_groups,
    )


@dataclass(frozen=True, kw_only=True)
class _SortedLabel:
    """What sorting one label's scores gives, once for all draws. P positives, M negatives."""

    positive_rows: np.ndarray
    """[P] rows of the positives."""
    negative_rows: np.ndarray
    """[M] rows of the negatives, by ascending score."""
    below: np.ndarray
    """[P] negatives that score strictly below each positive."""
    up_to: np.ndarray
    """[P] negatives that score below or equal."""

    @staticmethod
    def of(targets: np.ndarray, scores: np.ndarray) -> "_SortedLabel":
        positive = np.flatnonzero(targets)
        negative = np.flatnonzero(~targets)
        negative = negative[np.argsort(scores[negative], kind="stable")]
        return _SortedLabel(
            positive_rows=positive,
            negative_rows=negative,
            below=np.searchsorted(scores[negative], scores[positive], side="left"),
            up_to=np.searchsorted(scores[negative], scores[positive], side="right"),
        )

    def auroc(self, weights_ND: np.ndarray) -> np.ndarray:
        """[D] weighted areas: the weight of (positive, negative) pairs in right order, ties half; NaN without pairs."""
        negative_sums = np.zeros((len(self.negative_rows) + 1, weights_ND.shape[1]), dtype=np.float32)
        # Sums of whole numbers up to the number of recordings, exact in float32 below 8 million.
        np.cumsum(weights_ND[self.negative_rows], axis=0, out=negative_sums[1:])
        weights_PD = weights_ND[self.positive_rows]
        beaten_PD = negative_sums[self.below] + negative_sums[self.up_to]
        wins_D = np.einsum("pd,pd->d", weights_PD, beaten_PD, dtype=np.float64) / 2
        pairs_D = weights_PD.sum(axis=0, dtype=np.float64) * negative_sums[-1]
        return np.divide(wins_D, pairs_D, out=np.full(len(pairs_D), np.nan), where=pairs_D > 0)


def _groups(patient_ids: Sequence[str | None] | None, count: int) -> tuple[np.ndarray, int]:
    """[N] the patient of each recording as a number, and how many patients there are."""
    if patient_ids is None:
        return np.arange(count), count
    numbers: dict[object, int] = {}
    # The row number, an int, stands for a missing id and equals no id, a text.
    keys = (row if patient_id is None else str(patient_id) for row, patient_id in enumerate(patient_ids))
    group_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    if len(group_of) != count:
        raise ConfigError(f"patient_ids: wanted one entry per recording, {count}, got {len(group_of)}")
    return group_of, len(numbers)


def _weight_chunks(
    rng: np.random.Generator, group_of: np.ndarray, num_groups: int, draws: int, chunk: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The weights of all draws, `chunk` draws at a time, with the number of the first."""
    for start in range(0, draws, chunk):
        yield start, _draw_weights(rng, group_of, num_groups, min(chunk, draws - start))


def _draw_weights(rng: np.random.Generator, group_of: np.ndarray, num_groups: int, draws: int) -> np.ndarray:
    """[N, D] float32: how often each recording's group is among `num_groups` draws with replacement."""
    picks = rng.integers(num_groups, size=(draws, num_groups))
    picks += np.arange(draws)[:, None] * num_groups
    counts = np.bincount(picks.ravel(), minlength=draws * num_groups).reshape(draws, num_groups)
    return np.ascontiguousarray(counts.T.astype(np.float32))[group_of]


def _interval(estimate: float, drawn: np.ndarray, confidence: float) -> Interval:
    usable = drawn[~np.isnan(drawn)]
    lower = upper = None
    if len(usable) >= MIN_USABLE_DRAWS:
        lower, upper = (float(q) for q in np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2]))
    value = None if np.isnan(estimate) else float(estimate)
    return Interval(estimate=value, lower=lower, upper=upper, draws=len(usable))
