"""compare: two evaluations of the same recordings -> whether one classifier is better, and how sure that is."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubert_ecg.errors import ArtifactError, ConfigError, InputError
from hubert_ecg.evaluation.delong import MIN_OF_EACH_CLASS, delong_test
from hubert_ecg.evaluation.paired import Arm, Difference, PairedDifferences, paired_bootstrap
from hubert_ecg.pipeline.evaluate_shard import Question
from hubert_ecg.pipeline.predictions import Predictions
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact

log = logging.getLogger(__name__)

COMPARISON, TABLE = "comparison.json", "table.txt"
_NAMED = 3
"""Recordings that are named where two evaluations differ in them."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare two classifiers that were judged on the same recordings."""

    evaluations: list[str]
    """Two outputs of jobs.evaluate; differences are the first less the second."""
    output: str
    """Directory to write comparison.json and table.txt to."""
    draws: int = 2000
    """Resamplings of patients behind each interval."""
    confidence: float = 0.95
    """Share of intervals that are to hold the true difference."""
    seed: int = 0
    """Seed of the resamplings."""

    def __post_init__(self) -> None:
        if len(self.evaluations) != 2:
            raise ConfigError(f"--evaluations: wanted two directories, got {len(self.evaluations)}")
        if self.draws < 100 or not 0 < self.confidence < 1:
            raise ConfigError(
                f"wanted --draws of at least 100 and --confidence between 0 and 1, got {self.draws} and "
                f"{self.confidence}"
            )


def compare(config: CompareConfig) -> Manifest:
    """Run the stage."""
    manifests = [open_artifact(place, verb="evaluate", role="--evaluations") for place in config.evaluations]
    described = {"draws": config.draws, "confidence": config.confidence, "seed": config.seed}
    inputs = {name: manifest.fingerprint for name, manifest in zip(("first", "second"), manifests, strict=True)}
    first, second = (_read(manifest) for manifest in manifests)
    labels = _check_same(first, second, config.evaluations)
    output = begin(config.output, verb="compare", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    one, other = (_arm(predictions, labels) for predictions in (first, second))
    targets = _pick(first, labels, first.targets)
    differences = paired_bootstrap(
        targets,
        one,
        other,
        labels,
        rng=np.random.default_rng(config.seed),
        patient_ids=first.patient_ids,
        draws=config.draws,
        confidence=config.confidence,
    )
    content: dict[str, Any] = {
        "recordings": len(targets),
        "first": _about(manifests[0]),
        "second": _about(manifests[1]),
        "labels": list(labels),
        "differences": {name: found.to_dict() for name, found in differences.items()},
        "delong": _delong(targets, one.scores[0], other.scores[0], labels, config.confidence),
        "note": "DeLong's test takes recordings for independent; the bootstrap resamples patients.",
    }
    text = _table(differences["auroc"], content["delong"], len(targets))
    files.write_json(files.join(output.directory, COMPARISON), content)
    files.write_bytes(files.join(output.directory, TABLE), (text + "\n").encode())
    log.info("compare: first less second\n%s", text)
    macro = content["differences"]["auroc"]["macro"]
    return output.finish(parts=0, facts={"recordings": len(targets), "macro_auroc": macro})


def _read(manifest: Manifest) -> Predictions:
    """The judged labels of an evaluation; InputError for a regression."""
    if manifest.facts["task"] == "regression":
        raise InputError(f"{manifest.directory}: wanted an evaluation of a classifier, got one of numbers")
    question = Question.from_json(manifest.facts["question"])
    return Predictions.read(manifest.directory, manifest.parts, question, manifest.facts["thresholds"])


def _check_same(first: Predictions, second: Predictions, places: list[str]) -> tuple[str, ...]:
    """The labels that both were judged on; ArtifactError, by name, where recordings or their truth differ."""
    both = f"{places[0]} and {places[1]}"
    ids = [set(predictions.record_ids) for predictions in (first, second)]
    if ids[0] != ids[1]:
        only = [sorted(ids[0] - ids[1]), sorted(ids[1] - ids[0])]
        said = "; ".join(
            f"only {where} has {len(names)} ({', '.join(names[:_NAMED])})"
            for where, names in zip(("the first", "the second"), only, strict=True)
            if names
        )
        raise ArtifactError(f"{both}: wanted the same recordings, {said}; evaluate both on one table, split and tag")
    if first.record_ids != second.record_ids:
        raise ArtifactError(f"{both}: wanted the same recordings in the same order; evaluate both on one table")
    labels = tuple(label for label in first.labels if label in second.labels)
    if not labels:
        raise ArtifactError(
            f"{both}: wanted labels that both were judged on, got {', '.join(first.labels)} and "
            f"{', '.join(second.labels)}"
        )
    truths = [_pick(predictions, labels, predictions.targets) for predictions in (first, second)]
    unequal = np.flatnonzero((truths[0] != truths[1]).any(axis=1))
    if len(unequal):
        named = ", ".join(first.record_ids[row] for row in unequal[:_NAMED])
        raise ArtifactError(
            f"{both}: wanted the same labels for the same recordings, got others for {len(unequal)} ({named}); "
            f"evaluate both with one label set"
        )
    return labels


def _arm(predictions: Predictions, labels: tuple[str, ...]) -> Arm:
    return Arm(
        scores=[_pick(predictions, labels, predictions.outputs)],
        predicted=[_pick(predictions, labels, predictions.predicted)],
    )


def _pick(predictions: Predictions, labels: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    picked: np.ndarray = values[:, [predictions.labels.index(label) for label in labels]]
    return picked


def _about(manifest: Manifest) -> dict[str, Any]:
    return {"evaluation": manifest.fingerprint, "checkpoint": manifest.inputs["checkpoint"], "config": manifest.config}


def _delong(
    targets: np.ndarray, first: np.ndarray, second: np.ndarray, labels: tuple[str, ...], confidence: float
) -> dict[str, Any]:
    """Label -> DeLong's test; None where there are too few of a class."""
    found: dict[str, Any] = {}
    for column, label in enumerate(labels):
        positives = int(targets[:, column].sum())
        found[label] = None
        if min(positives, len(targets) - positives) >= MIN_OF_EACH_CLASS:
            test = delong_test(targets[:, column], first[:, column], second[:, column])
            low, high = test.interval(confidence)
            found[label] = {"z": test.z, "p_value": test.p_value, "lower": low, "upper": high}
    return found


def _table(differences: PairedDifferences, delong: dict[str, Any], recordings: int) -> str:
    """One line per label, aligned for a terminal."""
    rows = [("AUROC", "first", "second", "difference", f"{differences.confidence:.0%} interval", "p", "p (DeLong)")]
    for label, difference in differences.per_label.items():
        test = delong[label]
        rows.append((label, *_words(difference), _number(test["p_value"] if test else None)))
    rows.append((f"macro, {recordings} recordings", *_words(differences.macro), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if at else cell.ljust(w) for at, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _words(difference: Difference) -> tuple[str, str, str, str, str]:
    span = "-"
    if difference.lower is not None and difference.upper is not None:
        span = f"{difference.lower:+.3f} to {difference.upper:+.3f}"
    apart = "-" if difference.difference is None else f"{difference.difference:+.3f}"
    return _number(difference.first), _number(difference.second), apart, span, _number(difference.p_value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
