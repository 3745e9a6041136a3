"""Parts of an evaluation beside its metrics: calibration, confusions, subgroups, what is withheld, the Challenge."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hubert_ecg.datasets.cinc_codes import CONDITION_CODES, SCORED
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation import reliability
from hubert_ecg.evaluation.bootstrap import percentile_interval
from hubert_ecg.evaluation.challenge import ChallengeWeights
from hubert_ecg.evaluation.confusion import confused_pairs, confusion_matrix
from hubert_ecg.evaluation.metrics import evaluate_multi_label
from hubert_ecg.evaluation.resampling import Resampling
from hubert_ecg.evaluation.subgroups import UNKNOWN, age_band, subgroups
from hubert_ecg.pipeline.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What the Challenge's score needs."""

    weights: ChallengeWeights
    normal: str
    """Name of the normal class in the weights file."""
    data_labels: tuple[str, ...]
    """All labels of the label set: what the data can say."""

    def __post_init__(self) -> None:
        if self.weights.index([self.normal]) is None:
            raise ConfigError(
                f"--normal_class: wanted one of the classes of the weights, {', '.join(self.weights.names)}, got "
                f"{self.normal}"
            )


def calibration_of(predictions: Predictions, calibrated: bool) -> dict[str, Any]:
    """Reliability of the probabilities and, where the checkpoint calibrates, of those before calibration."""

    def judge(probabilities: np.ndarray) -> dict[str, Any]:
        found = reliability.to_dict(reliability.reliability(predictions.targets, probabilities, predictions.labels))
        if predictions.task == "multi_class":
            top = reliability.top_label_reliability(predictions.targets, probabilities)
            found["top_label"] = None if top is None else asdict(top)
        return found

    after = {"calibrated": calibrated} | judge(predictions.outputs)
    return after | {"before": judge(predictions.raw)} if calibrated else after


def confusion_of(predictions: Predictions) -> dict[str, Any]:
    """The pairs most confused, and of exclusive classes the whole matrix with accuracy and its balanced form."""
    targets, predicted, labels = predictions.targets, predictions.predicted, predictions.labels
    found: dict[str, Any] = {"confused_pairs": [asdict(p) for p in confused_pairs(targets, predicted, labels)]}
    if predictions.task != "multi_class":
        return found
    matrix = confusion_matrix(targets, predicted)
    recalls = [matrix[i, i] / matrix[i].sum() for i in range(len(labels)) if matrix[i].sum()]
    return found | {
        "confusion_matrix": {"labels": list(labels), "rows_are_true_classes": matrix.tolist()},
        "accuracy": float(np.trace(matrix) / max(matrix.sum(), 1)),
        "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
    }


def subgroups_of(predictions: Predictions, rng: np.random.Generator, draws: int) -> dict[str, Any]:
    """By age band, sex and signal quality; a division whose part is the same for all recordings is left out."""
    divisions = {
        "age": [age_band(age) for age in predictions.ages_years],
        "sex": [sex or UNKNOWN for sex in predictions.sexes],
        "signal_quality": predictions.quality,
    }
    return subgroups(
        predictions.targets,
        predictions.outputs,
        predictions.predicted,
        predictions.labels,
        {name: parts for name, parts in divisions.items() if len(set(parts)) > 1},
        rng=rng,
        patient_ids=predictions.patient_ids,
        draws=draws,
    )


def abstention_of(predictions: Predictions) -> dict[str, Any] | None:
    """How many predictions the checkpoint's rule withholds and what the others are worth; None: it withholds none."""
    kept = np.array([reason is None for reason in predictions.abstained], bool)
    if kept.all():
        return None
    macro = {
        name: asdict(
            evaluate_multi_label(
                predictions.targets[rows],
                predictions.outputs[rows],
                predictions.labels,
                predicted=predictions.predicted[rows],
            ).macro
        )
        for name, rows in (("kept", kept), ("withheld", ~kept))
    }
    kinds = Counter(reason.split(":")[0] for reason in predictions.abstained if reason is not None)
    return {
        "withheld": int((~kept).sum()),
        "share": float((~kept).mean()),
        "reasons": dict(kinds),
        "macro_kept": macro["kept"],
        "macro_withheld": macro["withheld"],
    }


def challenge_of(
    predictions: Predictions, challenge: Challenge, rng: np.random.Generator, draws: int
) -> dict[str, Any]:
    """The Challenge's score with its interval; the truth is all that the label set says, not only what is judged."""
    weights = challenge.weights
    normal = weights.index([challenge.normal])
    assert normal is not None
    names_of = {column: names_of_label(label) for column, label in enumerate(predictions.labels)}
    predicted = weights.matrix(predictions.predicted, names_of)
    of_label = {label: weights.index(names_of_label(label)) for label in challenge.data_labels}
    targets = np.zeros_like(predicted)
    for row, names in enumerate(predictions.present):
        for name in names:
            at = of_label.get(name)
            if at is not None:
                targets[row, at] = True
    can_predict = {weights.index(names) for names in names_of.values()} - {None}
    can_be_true = set(of_label.values()) - {None}
    if not can_predict & can_be_true:
        raise ConfigError(
            "--challenge_weights: none of the scored classes is both predicted and in the data; scored are "
            f"{', '.join(weights.names)}, predicted {', '.join(predictions.labels)}"
        )
    estimate = weights.score(targets, predicted, normal)
    resampling = Resampling.of(len(targets), predictions.patient_ids)
    pieces = [weights.scores(targets, predicted, normal, times) for times in resampling.weights(rng, draws)]
    interval = percentile_interval(estimate, np.concatenate(pieces), 0.95)
    return asdict(interval) | {
        "scored_classes": len(weights.classes),
        "never_predicted": [name for at, name in enumerate(weights.names) if at not in can_predict],
        "not_in_the_data": [name for at, name in enumerate(weights.names) if at not in can_be_true],
    }


def names_of_label(label: str) -> Iterable[str]:
    """The names under which a label may stand in a table of weights: its own, its parts', and its SNOMED CT codes."""
    parts: Sequence[str] = label.split("|")
    codes = [*SCORED.get(label, ("", ()))[1], *(code for part in parts for code in CONDITION_CODES.get(part, ()))]
    return {label, *parts, *codes}
