"""Bootstrap intervals of all metrics, per label and macro, resampling patients rather than recordings.

The interval is estimate +- t * standard deviation of the draws on the logit scale, as metrics lie between 0 and 1 and
their draws are skewed near the ends; t is Student's, with as many degrees of freedom as there are patients of a label's
rarer class, less one (for the macro pooled by Welch and Satterthwaite's rule). For AUROC it holds its level where the
percentile interval is too short (benchmarks/coverage.py). Efron and Tibshirani, An Introduction to the Bootstrap, 1993;
the logit scale as in Pepe, The Statistical Evaluation of Medical Tests, 2003. Resampling cannot see beyond the sample:
an estimate of exactly 0 or 1 has no interval.
Shapes: N recordings, L labels, D draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import checked
from hubert_ecg.evaluation.resampling import Resampling
from hubert_ecg.evaluation.weighted import WeightedMetrics

MIN_USABLE_DRAWS = 40
"""The fewest draws that say anything about a spread."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval; None where too few draws could be judged, or the estimate is 0 or 1."""

    estimate: float | None
    """The value on the recordings as they are."""
    lower: float | None
    upper: float | None
    draws: int
    """Draws that the interval rests on: those in which both classes were there (for the macro: of every label)."""


@dataclass(frozen=True, kw_only=True)
class MetricIntervals:
    """A metric with intervals, per label and macro."""

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
    stratified: bool = True,
) -> MetricIntervals:
    """Intervals of AUROC alone; see `bootstrap_metrics`."""
    found = bootstrap_metrics(
        targets,
        scores,
        labels,
        rng=rng,
        patient_ids=patient_ids,
        draws=draws,
        confidence=confidence,
        stratified=stratified,
    )
    return found["auroc"]


def bootstrap_metrics(
    targets: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    *,
    rng: np.random.Generator,
    predicted: np.ndarray | None = None,
    patient_ids: Sequence[str | None] | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
    stratified: bool = True,
) -> dict[str, MetricIntervals]:
    """Metric -> intervals, for [N, L] bool targets and [N, L] scores: AUROC and AUPRC, and with predictions [N, L] bool
    all metrics of `METRICS`.

    A recording without patient id is a patient of its own. `stratified`: see `hubert_ecg.evaluation.resampling`.
    Raises InputError for shapes that do not fit or NaN, ConfigError for impossible `draws` or `confidence`.
    """
    targets, scores = checked(targets, scores, labels)
    check_draws(draws, confidence)
    resampling = Resampling.of(len(targets), patient_ids, targets if stratified else None)
    judged = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    freedom = resampling.freedom(targets[:, judged])
    chosen = None if predicted is None else np.asarray(predicted, bool)[:, judged]
    metrics = WeightedMetrics(targets[:, judged], scores[:, judged], chosen)
    estimates = metrics.of(np.ones((len(targets), 1), np.float32))
    pieces = [metrics.of(weights) for weights in resampling.weights(rng, draws)]
    about: dict[str, Any] = {
        "confidence": confidence,
        "draws": draws,
        "resampled": resampling.unit,
        "groups": resampling.num_groups,
    }
    found = {}
    for name in metrics.names:
        drawn = np.concatenate([piece[name] for piece in pieces])
        per_label = _per_label(labels, judged, estimates[name][0], drawn, confidence, freedom)
        macro = _macro(estimates[name][0], drawn, confidence, freedom)
        found[name] = MetricIntervals(per_label=per_label, macro=macro, **about)
    return found


def check_draws(draws: int, confidence: float) -> None:
    """ConfigError for settings that make no interval."""
    if draws < MIN_USABLE_DRAWS or not 0 < confidence < 1:
        raise ConfigError(
            f"wanted at least {MIN_USABLE_DRAWS} draws and a confidence between 0 and 1, got {draws} and {confidence}"
        )


def logit_interval(estimate: float, drawn: np.ndarray, confidence: float, freedom: float) -> Interval:
    """The interval of a number between 0 and 1 from [D] draws of it, NaN for draws that do not count."""
    usable = drawn[~np.isnan(drawn)]
    known = None if np.isnan(estimate) else float(estimate)
    if known is None or not 0 < known < 1 or len(usable) < MIN_USABLE_DRAWS or freedom < 1:
        return Interval(estimate=known, lower=None, upper=None, draws=len(usable))
    # The delta method: the logit's slope is 1 / (p (1 - p)).
    reach = student.ppf((1 + confidence) / 2, freedom) * usable.std(ddof=1) / (known * (1 - known))
    middle = np.log(known / (1 - known))
    lower, upper = (float(1 / (1 + np.exp(-(middle + side)))) for side in (-reach, reach))
    return Interval(estimate=known, lower=lower, upper=upper, draws=len(usable))


def percentile_interval(estimate: float | None, drawn: np.ndarray, confidence: float) -> Interval:
    """The interval of any number from the quantiles of [D] draws of it, NaN for draws that do not count."""
    usable = drawn[~np.isnan(drawn)]
    if estimate is None or np.isnan(estimate) or len(usable) < MIN_USABLE_DRAWS:
        return Interval(
            estimate=None if estimate is None or np.isnan(estimate) else float(estimate),
            lower=None,
            upper=None,
            draws=len(usable),
        )
    lower, upper = (float(q) for q in np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return Interval(estimate=float(estimate), lower=lower, upper=upper, draws=len(usable))


def _per_label(
    labels: Sequence[str],
    judged: np.ndarray,
    estimates: np.ndarray,
    drawn: np.ndarray,
    confidence: float,
    freedom: np.ndarray,
) -> dict[str, Interval]:
    found: Mapping[int, Interval] = {
        column: logit_interval(float(estimates[place]), drawn[:, place], confidence, float(freedom[place]))
        for place, column in enumerate(judged.tolist())
    }
    unknown = Interval(estimate=None, lower=None, upper=None, draws=0)
    return {label: found.get(column, unknown) for column, label in enumerate(labels)}


def _macro(estimates: np.ndarray, drawn: np.ndarray, confidence: float, freedom: np.ndarray) -> Interval:
    """Of the mean over the judged labels; draws [D, L]."""
    if len(estimates) == 0:
        return Interval(estimate=None, lower=None, upper=None, draws=0)
    means = drawn.mean(axis=1)
    variances = np.nanvar(drawn, axis=0) if (~np.isnan(means)).any() else np.ones(len(estimates))
    weight = (variances**2 / np.maximum(freedom, 1)).sum()
    pooled = float(variances.sum() ** 2 / weight) if weight > 0 else float(max(freedom.max(), 1))
    return logit_interval(float(estimates.mean()), means, confidence, pooled)
