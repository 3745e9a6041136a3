"""The same metrics for parts of the recordings: by age band, sex and signal quality.

A label with fewer than `MIN_POSITIVES` positives, or negatives, in a part is not judged there and said to be so. A
part's macro AUROC is over those labels that can be judged in every part of the same division, so that parts differ by
their recordings and not by their labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hubert_ecg.evaluation.bootstrap import Interval, bootstrap_auroc

MIN_POSITIVES = 10
AGE_BANDS = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 200))
UNKNOWN = "unknown"


def age_band(age_years: float | None) -> str:
    """`40 to 59`, say; `80 and over`; `unknown`."""
    if age_years is None or age_years != age_years:
        return UNKNOWN
    low, high = next((band for band in AGE_BANDS if age_years < band[1] + 1), AGE_BANDS[-1])
    return f"{low} and over" if high == AGE_BANDS[-1][1] else f"{low} to {high}"


def subgroups(
    targets: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    labels: Sequence[str],
    divisions: Mapping[str, Sequence[str]],
    *,
    rng: np.random.Generator,
    patient_ids: Sequence[str | None] | None = None,
    draws: int = 500,
) -> dict[str, dict[str, Any]]:
    """Division -> part -> its metrics as plain data, for [N, L] bool targets, probabilities and predictions.

    `divisions`: name -> the part that each recording belongs to.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, parts in divisions.items():
        rows = {part: np.flatnonzero(np.array(parts, object) == part) for part in sorted(set(parts))}
        judged = {part: _judged(targets[of_part]) for part, of_part in rows.items()}
        able = [columns for columns in judged.values() if columns.any()]
        common = np.flatnonzero(np.logical_and.reduce(able)) if able else np.zeros(0, int)
        found[name] = {
            part: _part(
                targets[of_part],
                probabilities[of_part],
                predicted[of_part],
                labels,
                judged[part],
                common if judged[part].any() else common[:0],
                None if patient_ids is None else [patient_ids[row] for row in of_part.tolist()],
                rng,
                draws,
            )
            for part, of_part in rows.items()
        }
    return found


def _judged(targets: np.ndarray) -> np.ndarray:
    """[L] bool: enough of both classes."""
    positives = targets.sum(axis=0)
    enough: np.ndarray = np.minimum(positives, len(targets) - positives) >= MIN_POSITIVES
    return enough


def _part(
    targets: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    labels: Sequence[str],
    judged: np.ndarray,
    common: np.ndarray,
    patient_ids: Sequence[str | None] | None,
    rng: np.random.Generator,
    draws: int,
) -> dict[str, Any]:
    per_label: dict[str, Any] = {
        label: {"positives": int(targets[:, column].sum()), "judged": bool(judged[column])}
        for column, label in enumerate(labels)
    }
    columns = np.flatnonzero(judged)
    if len(columns):
        names = [labels[column] for column in columns.tolist()]
        settings: dict[str, Any] = {"rng": rng, "patient_ids": patient_ids, "draws": draws}
        intervals = bootstrap_auroc(targets[:, columns], probabilities[:, columns], names, **settings)
        for column, label in zip(columns, names, strict=True):
            truth, made = targets[:, column], predicted[:, column]
            per_label[label] |= {
                "auroc": _plain(intervals.per_label[label]),
                "recall": float(made[truth].mean()),
                "specificity": float((~made[~truth]).mean()),
            }
    macro = None
    if len(common):
        names = [labels[column] for column in common.tolist()]
        settings = {"rng": rng, "patient_ids": patient_ids, "draws": draws}
        macro = _plain(bootstrap_auroc(targets[:, common], probabilities[:, common], names, **settings).macro)
    return {
        "recordings": len(targets),
        "macro_auroc": macro,
        "macro_labels": [labels[column] for column in common.tolist()],
        "per_label": per_label,
    }


def _plain(interval: Interval) -> dict[str, float | None]:
    return {"estimate": interval.estimate, "lower": interval.lower, "upper": interval.upper}
