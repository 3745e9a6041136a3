"""What a fine-tuning knows of its task: weights of labels, scale of numbers, and how a validation is judged."""

from collections import Counter
from typing import Any, Literal, get_args

import numpy as np

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import METRICS, evaluate_multi_label, max_f1_thresholds
from hubert_ecg.evaluation.regression import evaluate_regression
from hubert_ecg.pipeline.training_setup import Rows
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.targets import LabelTargets

MAX_WEIGHT = 20.0
"""Of a rare label's positives, or of a rare class; a label that never occurs has it too."""

LabelMetric = Literal["auroc", "auprc", "f1", "recall", "precision", "specificity", "accuracy"]
NumberMetric = Literal["mae", "r2"]
TargetMetric = Literal["auroc", "auprc", "f1", "recall", "precision", "specificity", "accuracy", "mae", "r2", "loss"]
DEFAULT_METRIC = {"multi_label": "auroc", "multi_class": "auroc", "regression": "r2"}


def check_metric(metric: TargetMetric | None, task: str) -> None:
    """ConfigError for a metric that the task does not have."""
    known = get_args(NumberMetric if task == "regression" else LabelMetric)
    if metric not in (None, "loss", *known):
        raise ConfigError(
            f"--target_metric: wanted one of {', '.join(known)} or loss for a task of {task}, got {metric}"
        )


def prevalence(waveforms: Manifest, targets: LabelTargets, selected: Rows) -> list[float]:
    """Share of the selected recordings that carry each label."""
    counts: Counter[str] = Counter()
    for answers in _answers(waveforms, targets, selected):
        counts.update(name for names in answers for name in names or ())
    total = sum(map(len, selected))
    return [counts[label] / total for label in targets.labels]


def carried_labels(waveforms: Manifest, targets: LabelTargets, selected: Rows) -> np.ndarray:
    """[N, label] bool: which labels each selected recording carries, in the order of shards and rows."""
    answers = [names for of_shard in _answers(waveforms, targets, selected) for names in of_shard]
    return np.array([[label in (names or ()) for label in targets.labels] for names in answers], bool)


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


def judge_validation(
    targets: np.ndarray,
    outputs: np.ndarray,
    labels: tuple[str, ...],
    task: str,
    *,
    loss: float,
    metric: TargetMetric | None = None,
) -> dict[str, Any]:
    """Metrics of a validation: `val_loss`, what the task has, and `score` (higher is better), which is `metric`.

    `outputs` [N, label] are probabilities, or predicted numbers; `targets` are as `LabelTargets` makes them; `loss` is
    the training's own. A label counts as predicted from a probability of 0.5 on, a class where it is the most probable.
    Where a metric cannot be judged (no label has both positives and negatives, no number varies) the loss decides.
    """
    if task == "regression":
        found = _judge_numbers(targets, outputs, labels)
    elif task == "multi_class":
        found = _judge_classes(targets[:, 0].astype(np.int64), outputs, labels)
    else:
        truth = targets > 0.5
        macro = evaluate_multi_label(truth, outputs, labels).macro
        found = {f"val_macro_{name}": getattr(macro, name) for name in METRICS}
        found["thresholds"] = max_f1_thresholds(truth, outputs).tolist()
    return {"val_loss": loss} | found | {"score": _score(found, metric or DEFAULT_METRIC[task], loss)}


def _judge_numbers(targets: np.ndarray, outputs: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    metrics = evaluate_regression(targets, outputs, labels)
    errors = [output.mae for output in metrics.per_label if output.mae is not None]
    return {"val_mae": float(np.mean(errors)) if errors else None, "val_r2": metrics.mean_r2}


def _judge_classes(classes: np.ndarray, outputs: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    truth, predicted = (np.eye(len(labels), dtype=bool)[of] for of in (classes, outputs.argmax(axis=1)))
    ranked = evaluate_multi_label(truth, outputs, labels).macro
    decided = evaluate_multi_label(truth, predicted.astype(np.float64), labels).macro
    names = {"auroc": ranked, "auprc": ranked} | dict.fromkeys(("f1", "recall", "precision", "specificity"), decided)
    found: dict[str, Any] = {f"val_macro_{name}": getattr(macro, name) for name, macro in names.items()}
    return found | {"val_accuracy": float((truth & predicted).any(axis=1).mean())}


def _score(found: dict[str, Any], metric: str, loss: float) -> float:
    value = next((found[name] for name in (f"val_macro_{metric}", f"val_{metric}") if name in found), None)
    if metric == "loss" or value is None:
        return -loss
    return float(-value if metric == "mae" else value)


def _answers(waveforms: Manifest, targets: LabelTargets, selected: Rows) -> list[list[Any]]:
    """Per shard the entries of the selected rows in the label column."""
    column = tables.LABEL_PREFIX + targets.label_set
    return [
        files.read_table(waveforms.part(part), [column]).column(0).take(rows).to_pylist()
        for part, rows in enumerate(selected)
    ]
