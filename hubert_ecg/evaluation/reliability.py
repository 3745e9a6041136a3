"""Whether probabilities mean what they say: reliability curves, expected calibration error, Brier score.

Expected calibration error: the mean distance between predicted and observed share of positives over bins, weighted by
their recordings; Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015, with bins of
equal width. With rare labels nearly all recordings fall into the first of those, so that bins of equal mass (Nguyen and
O'Connor, Posterior calibration and exploratory analysis for natural language processing models, EMNLP 2015) are what
is reported first. Either is above 0 by chance even for perfect probabilities, the more the fewer recordings there are.
Shapes: N recordings, L labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hubert_ecg.evaluation.metrics import checked

NUM_BINS = 15
Binning = Literal["equal_mass", "equal_width"]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin of a reliability curve."""

    recordings: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share of positives."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well the probabilities of one label are calibrated."""

    ece_equal_mass: float
    ece_equal_width: float
    brier: float
    """Mean squared difference of probability and truth."""
    predicted: float
    """Mean probability over all recordings."""
    observed: float
    """Share of positives among them."""
    curve: tuple[Bin, ...]
    """Bins of equal mass."""


def reliability(targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Reliability | None]:
    """Label -> its calibration, for [N, L] bool targets and [N, L] probabilities; None where one class is absent.

    Raises InputError for shapes that do not fit and for NaN.
    """
    targets, probabilities = checked(targets, probabilities, labels)
    return {
        label: _of_label(targets[:, column], probabilities[:, column])
        if targets[:, column].any() and not targets[:, column].all()
        else None
        for column, label in enumerate(labels)
    }


def top_label_reliability(targets: np.ndarray, probabilities: np.ndarray) -> Reliability | None:
    """Of the most probable class of [N, L] exclusive classes: its probability, and whether it is right (Guo et al.,
    2017). None without recordings."""
    targets, probabilities = checked(targets, probabilities)
    if len(targets) == 0:
        return None
    chosen = probabilities.argmax(axis=1)
    rows = np.arange(len(targets))
    return _of_label(targets[rows, chosen], probabilities[rows, chosen])


def expected_calibration_error(
    targets: np.ndarray, probabilities: np.ndarray, *, bins: int = NUM_BINS, binning: Binning = "equal_mass"
) -> float:
    """Of one label: [N] bool targets, [N] probabilities."""
    return sum(
        bin.recordings * abs(bin.predicted - bin.observed)
        for bin in reliability_bins(targets, probabilities, bins, binning)
    ) / max(len(targets), 1)


def reliability_bins(
    targets: np.ndarray, probabilities: np.ndarray, bins: int = NUM_BINS, binning: Binning = "equal_mass"
) -> tuple[Bin, ...]:
    """The bins that hold recordings, by ascending probability. Equal probabilities fall into one bin."""
    if len(probabilities) == 0:
        return ()
    edges = np.linspace(0, 1, bins + 1)
    if binning == "equal_mass":
        # The last probability of each bin, so that bins hold as many recordings as ties allow.
        last = np.ceil(edges[1:] * len(probabilities)).astype(int) - 1
        edges = np.append(-np.inf, np.unique(np.sort(probabilities)[np.maximum(last, 0)]))
    # Bins are open below and closed above, the first also below.
    place = np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, None)
    counts = np.bincount(place)
    predicted, observed = (np.bincount(place, weights=values) for values in (probabilities, targets.astype(float)))
    return tuple(
        Bin(recordings=int(count), predicted=float(p / count), observed=float(o / count))
        for count, p, o in zip(counts, predicted, observed, strict=True)
        if count
    )


def to_dict(found: dict[str, Reliability | None]) -> dict[str, Any]:
    """Plain data for JSON: per label, and the means over the labels that can be judged."""
    known = [of_label for of_label in found.values() if of_label is not None]
    names = ("ece_equal_mass", "ece_equal_width", "brier")
    return {
        "macro": {name: float(np.mean([getattr(r, name) for r in known])) if known else None for name in names},
        "per_label": {label: None if r is None else asdict(r) for label, r in found.items()},
    }


def _of_label(targets: np.ndarray, probabilities: np.ndarray) -> Reliability:
    return Reliability(
        ece_equal_mass=expected_calibration_error(targets, probabilities),
        ece_equal_width=expected_calibration_error(targets, probabilities, binning="equal_width"),
        brier=float(((probabilities - targets) ** 2).mean()),
        predicted=float(probabilities.mean()),
        observed=float(targets.mean()),
        curve=reliability_bins(targets, probabilities, bins=10),
    )
