"""Whether one classifier is better than another on the same recordings: a paired bootstrap over patients and seeds.

Each draw takes the same patients for both arms, so that what is hard about a recording cancels. An arm is one score
matrix, or one per training seed; then seeds are drawn as well, and a metric is the mean over them. Of S seeds S - 1 are
drawn, which makes the spread over draws an unbiased estimate of that between seeds (Rao and Wu, Resampling Inference
with Complex Survey Data, JASA 1988); drawing S of few would find it too small.
Shapes: N recordings, L labels, D draws, S seeds.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.evaluation.bootstrap import check_draws, percentile_interval
from hubert_ecg.evaluation.metrics import checked
from hubert_ecg.evaluation.resampling import Resampling
from hubert_ecg.evaluation.weighted import WeightedMetrics


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of both arms and how far apart they are; None where it cannot be judged."""

    first: float | None
    second: float | None
    difference: float | None
    """first - second."""
    lower: float | None
    """Quantiles of the difference over draws."""
    upper: float | None
    p_value: float | None
    """Two-sided: twice the smaller share of draws on either side of no difference, never below 2 / (draws + 1)."""


@dataclass(frozen=True, kw_only=True)
class PairedDifferences:
    """The differences of one metric, per label and macro."""

    per_label: dict[str, Difference]
    macro: Difference
    """Of the mean over the labels that can be judged."""
    confidence: float
    draws: int
    resampled: str
    """`patients` or `recordings`."""
    groups: int
    seeds: tuple[int, int]
    """Score matrices of the first and second arm."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"seeds": list(self.seeds)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """One classifier, or one recipe trained with several seeds."""

    scores: Sequence[np.ndarray]
    """Per seed [N, L]."""
    predicted: Sequence[np.ndarray] | None = None
    """Per seed [N, L] bool, for the metrics that need a decision."""


def paired_bootstrap(
    targets: np.ndarray,
    first: Arm,
    second: Arm,
    labels: Sequence[str],
    *,
    rng: np.random.Generator,
    patient_ids: Sequence[str | None] | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
    paired_seeds: bool = False,
    stratified: bool = True,
) -> dict[str, PairedDifferences]:
    """Metric -> differences: AUROC and AUPRC, and all of `METRICS` where both arms have predictions.

    `paired_seeds`: seed s of both arms belong together (the same training recordings, say) and are drawn together;
    otherwise the arms' seeds are drawn independently. `stratified`: see `hubert_ecg.evaluation.resampling`.
    Raises InputError for scores that do not fit the targets or hold NaN, ConfigError for impossible settings.
    """
    check_draws(draws, confidence)
    seeds = (len(first.scores), len(second.scores))
    if not all(seeds) or (paired_seeds and seeds[0] != seeds[1]):
        raise ConfigError(
            f"paired bootstrap: wanted one score matrix or more per arm, and as many of both for paired seeds, "
            f"got {seeds[0]} and {seeds[1]}"
        )
    decided = first.predicted is not None and second.predicted is not None
    with_decisions = [arm if decided else Arm(scores=arm.scores) for arm in (first, second)]
    truth, _ = checked(targets, first.scores[0], labels)
    judged = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    weighted = [_metrics_of_seeds(truth, arm, labels, judged) for arm in with_decisions]
    resampling = Resampling.of(len(truth), patient_ids, truth if stratified else None)
    weights_rng, seeds_rng = rng.spawn(2)
    whole = [_stack([of_seed.of(np.ones((len(truth), 1), np.float32)) for of_seed in arm]) for arm in weighted]
    pieces = [
        [_stack([of_seed.of(weights) for of_seed in arm]) for arm in weighted]
        for weights in resampling.weights(weights_rng, draws)
    ]
    chosen = _draw_seeds(seeds_rng, seeds, draws, paired_seeds)
    about = {
        "confidence": confidence,
        "draws": draws,
        "resampled": resampling.unit,
        "groups": resampling.num_groups,
        "seeds": seeds,
    }
    found = {}
    for name in weighted[0][0].names:
        estimates = [arm[name].mean(axis=0)[0] for arm in whole]
        drawn = [
            _mean_over_seeds(np.concatenate([piece[arm][name] for piece in pieces], axis=1), chosen[arm])
            for arm in (0, 1)
        ]
        found[name] = _differences(labels, judged, estimates, drawn[0] - drawn[1], about)
    return found


def _metrics_of_seeds(
    targets: np.ndarray, arm: Arm, labels: Sequence[str], judged: np.ndarray
) -> list[WeightedMetrics]:
    found = []
    for seed, scores in enumerate(arm.scores):
        _, values = checked(targets, scores, labels)
        predicted = None
        if arm.predicted is not None:
            predicted = np.asarray(arm.predicted[seed], bool)
            if predicted.shape != targets.shape:
                raise InputError(f"predictions: wanted shape {targets.shape}, got {predicted.shape}")
            predicted = predicted[:, judged]
        found.append(WeightedMetrics(targets[:, judged], values[:, judged], predicted))
    return found


def _stack(of_seeds: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Metric -> [S, D, L]."""
    return {name: np.stack([of_seed[name] for of_seed in of_seeds]) for name in of_seeds[0]}


def _draw_seeds(
    rng: np.random.Generator, seeds: tuple[int, int], draws: int, paired: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Per arm [D, S - 1] seeds of each draw, [D, 1] where there is one."""
    first = rng.integers(seeds[0], size=(draws, max(1, seeds[0] - 1)))
    return first, first if paired else rng.integers(seeds[1], size=(draws, max(1, seeds[1] - 1)))


def _mean_over_seeds(values_SDL: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[D, L] the mean over each draw's seeds."""
    counts = np.stack([(chosen == seed).sum(axis=1) for seed in range(len(values_SDL))]) / chosen.shape[1]
    # A label that a draw cannot judge is NaN for every seed alike.
    mean: np.ndarray = np.einsum("sd,sdl->dl", counts, values_SDL)
    return mean


def _differences(
    labels: Sequence[str],
    judged: np.ndarray,
    estimates: list[np.ndarray],
    drawn: np.ndarray,
    about: dict[str, Any],
) -> PairedDifferences:
    """From [L] estimates of both arms and [D, L] drawn differences of the judged labels."""
    confidence = about["confidence"]
    first, second = estimates
    places = {column: place for place, column in enumerate(judged.tolist())}
    unknown = Difference(first=None, second=None, difference=None, lower=None, upper=None, p_value=None)
    per_label = dict.fromkeys(labels, unknown)
    for column, place in places.items():
        per_label[labels[column]] = _difference(first[place], second[place], drawn[:, place], confidence)
    macro = _difference(first.mean(), second.mean(), drawn.mean(axis=1), confidence) if places else unknown
    return PairedDifferences(per_label=per_label, macro=macro, **about)


def _difference(first: float, second: float, drawn: np.ndarray, confidence: float) -> Difference:
    interval = percentile_interval(float(first - second), drawn, confidence)
    usable = drawn[~np.isnan(drawn)]
    p_value = None
    if interval.lower is not None:
        tail = min((usable <= 0).sum(), (usable >= 0).sum())
        p_value = min(1.0, 2 * float(tail + 1) / (len(usable) + 1))
    return Difference(
        first=float(first),
        second=float(second),
        difference=interval.estimate,
        lower=interval.lower,
        upper=interval.upper,
        p_value=p_value,
    )
