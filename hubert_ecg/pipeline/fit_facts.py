"""What a fine-tuning knows of its task: weights of labels, scale of numbers, and how a validation is judged."""

from collections import Counter
from typing import Any

import numpy as np

from hubert_ecg.evaluation.metrics import evaluate_multi_label, max_f1_thresholds
from hubert_ecg.evaluation.regression import evaluate_regression
from hubert_ecg.pipeline.training_setup import Rows
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.targets import LabelTargets

MAX_WEIGHT = 20.0
"""Of a rare label's positives, or of a rare class; a label that never occurs has it too."""


def prevalence(waveforms: Manifest, targets: LabelTargets, selected: Rows) -> list[float]:
    """Share of the selected recordings that carry each label."""
    counts: Counter[str] = Counter()
    for answers in _answers(waveforms, targets, selected):
        counts.update(name for names in answers for name in names or ())
    total = sum(map(len, selected))
    return [counts[label] / total for label in targets.labels]


def label_weights(shares: list[float], task: str) -> list[float]:
    """multi_label: negatives per positive, 1 to 20. multi_class: N / (classes * its count), at most 20."""
    share = np.clip(np.array(shares), 1e-6, 1)
    if task == "multi_class":
        return np.minimum(1 / (len(share) * share), MAX_WEIGHT).tolist()
    return np.clip((1 - share) / share, 1, MAX_WEIGHT).tolist()


def standard_scale(waveforms: Manifest, targets: LabelTargets, selected: Rows) -> dict[str, list[float]]:
    """`mean` and `std` of each number over the selected recordings; 0 and 1 for one that is nowhere known, and a
    standard deviation of 1 for one that never varies."""
    rows = [
        targets.target(answer, "recording") for answers in _answers(waveforms, targets, selected) for answer in answers
    ]
    known = np.ma.masked_invalid(np.stack(rows).astype(np.float64))
    std = known.std(axis=0).filled(1.0)
    return {"mean": known.mean(axis=0).filled(0.0).tolist(), "std": np.where(std > 0, std, 1.0).tolist()}


def judge_validation(targets: np.ndarray, outputs: np.ndarray, labels: tuple[str, ...], task: str) -> dict[str, Any]:
    """Metrics of a validation, `score` (higher is better) among them.

    `outputs` [N, label] are probabilities, or predicted numbers; `targets` are as `LabelTargets` makes them. Where no
    label has both positives and negatives there is no AUROC (no R2 where no number varies); the loss then decides.
    """
    if task == "regression":
        metrics = evaluate_regression(targets, outputs, labels)
        errors = [output.mae for output in metrics.per_label if output.mae is not None]
        mae = float(np.mean(errors)) if errors else 0.0
        score = -mae if metrics.mean_r2 is None else metrics.mean_r2
        return {"val_mae": mae, "val_r2": metrics.mean_r2, "score": score}
    clipped = np.clip(outputs, 1e-7, 1 - 1e-7)
    if task == "multi_class":
        classes = targets[:, 0].astype(np.int64)
        truth = np.eye(len(labels), dtype=bool)[classes]
        loss = float(-np.log(clipped[truth]).mean())
    else:
        truth = targets > 0.5
        loss = float(-(truth * np.log(clipped) + ~truth * np.log(1 - clipped)).mean())
    auroc = evaluate_multi_label(truth, outputs, labels).macro.auroc
    found = {"val_loss": loss, "val_macro_auroc": auroc, "score": -loss if auroc is None else auroc}
    if task == "multi_class":
        return found | {"val_accuracy": float((outputs.argmax(axis=1) == classes).mean())}
    return found | {"thresholds": max_f1_thresholds(truth, outputs).tolist()}


def _answers(waveforms: Manifest, targets: LabelTargets, selected: Rows) -> list[list[Any]]:
    """Per shard the entries of the selected rows in the label column."""
    column = tables.LABEL_PREFIX + targets.label_set
    return [
        files.read_table(waveforms.part(part), [column]).column(0).take(rows).to_pylist()
        for part, rows in enumerate(selected)
    ]
