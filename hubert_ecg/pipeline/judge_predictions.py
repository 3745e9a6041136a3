"""How good the stored predictions of an evaluation are: metrics.json, a table as text, a figure and a report."""

import io
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.simulate import CONDITION_TITLES
from hubert_ecg.evaluation.bootstrap import bootstrap_metrics
from hubert_ecg.evaluation.metrics import evaluate_multi_label
from hubert_ecg.evaluation.permutation import shuffled_label_auroc
from hubert_ecg.evaluation.plots import save_auroc_figure
from hubert_ecg.evaluation.regression import evaluate_regression, regression_intervals, regression_table
from hubert_ecg.evaluation.table import auroc_table
from hubert_ecg.pipeline.evaluate_page import write_page
from hubert_ecg.pipeline.judge_details import (
    Challenge,
    abstention_of,
    calibration_of,
    challenge_of,
    confusion_of,
    subgroups_of,
)
from hubert_ecg.pipeline.predictions import Predictions
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards

log = logging.getLogger(__name__)

METRICS, FIGURE, TABLE, PAGE = "metrics.json", "auroc.png", "table.txt", "report.html"
_SUBGROUP_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How predictions are judged."""

    draws: int
    """Resamplings of patients behind each confidence interval."""
    seed: int
    calibrated: bool
    """Whether the checkpoint calibrates its probabilities."""
    challenge: Challenge | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """Goes into the metrics as it is; holds `split`, and `notes` for people."""


def judge_predictions(
    predictions: Predictions, directory: str, judging: Judging, waveforms: Shards, preprocess: PreprocessConfig
) -> dict[str, Any]:
    """Write metrics, table, figure and report into the directory; returns what the manifest says of the result."""
    if predictions.task == "regression":
        return _judge_numbers(predictions, directory, judging, waveforms, preprocess)
    targets, outputs, labels = predictions.targets, predictions.outputs, predictions.labels
    metrics = _metrics(predictions)
    rng = np.random.default_rng(judging.seed)
    ids = predictions.patient_ids
    intervals = bootstrap_metrics(
        targets, outputs, labels, rng=rng, predicted=predictions.predicted, patient_ids=ids, draws=judging.draws
    )
    titles = {label: CONDITION_TITLES[label] for label in labels if label in CONDITION_TITLES}
    text = auroc_table(metrics, intervals["auroc"], titles=titles)
    macro = intervals["auroc"].to_dict()["macro"]
    content = metrics.to_dict() | {
        "macro_auroc": macro,
        "auroc_intervals": intervals["auroc"].to_dict(),
        "intervals": {name: found.to_dict() for name, found in intervals.items()},
        "shuffled_label_auroc": shuffled_label_auroc(targets, outputs, rng=rng).to_dict(),
        "calibration": calibration_of(predictions, judging.calibrated),
        "subgroups": subgroups_of(predictions, rng, min(judging.draws, _SUBGROUP_DRAWS)),
        "abstention": abstention_of(predictions),
        **confusion_of(predictions),
    }
    summary: dict[str, Any] = {"macro_auroc": macro}
    if predictions.task == "multi_class":
        summary["accuracy"] = content["accuracy"]
        text += f"\naccuracy {content['accuracy']:.3f}"
    if judging.challenge is not None:
        content["challenge"] = summary["challenge"] = challenge_of(predictions, judging.challenge, rng, judging.draws)
        score = content["challenge"]["estimate"]
        text += f"\nChallenge score {'-' if score is None else f'{score:.3f}'}"
    title = f"{metrics.recordings} recordings of split {judging.about['split']}"
    figure = io.BytesIO()
    save_auroc_figure(figure, targets, outputs, labels, intervals["auroc"], title=title, titles=titles)
    _write(directory, content | judging.about, text, figure.getvalue())
    write_page(files.join(directory, PAGE), content | judging.about, predictions, waveforms, preprocess, titles=titles)
    log.info("evaluate: %s\n%s", title, text)
    return summary


def read_table_text(directory: str) -> str:
    """The table of an evaluation, as text."""
    return files.read_bytes(files.join(files.absolute(directory), TABLE)).decode()


def _metrics(predictions: Predictions) -> Any:
    """With the thresholds where they decide, with the decisions as they are where something else does."""
    arguments = (predictions.targets, predictions.outputs, predictions.labels)
    if predictions.thresholds is not None:
        return evaluate_multi_label(*arguments, predictions.thresholds)
    return evaluate_multi_label(*arguments, predicted=predictions.predicted)


def _judge_numbers(
    predictions: Predictions, directory: str, judging: Judging, waveforms: Shards, preprocess: PreprocessConfig
) -> dict[str, Any]:
    targets, outputs, labels = predictions.targets, predictions.outputs, predictions.labels
    metrics = evaluate_regression(targets, outputs, labels)
    intervals = regression_intervals(
        targets,
        outputs,
        labels,
        rng=np.random.default_rng(judging.seed),
        patient_ids=predictions.patient_ids,
        draws=judging.draws,
    )
    text = regression_table(metrics)
    content = metrics.to_dict() | {"intervals": intervals} | judging.about
    _write(directory, content, text, None)
    write_page(files.join(directory, PAGE), content, predictions, waveforms, preprocess, titles={})
    log.info("evaluate: %d recordings of split %s\n%s", metrics.recordings, judging.about["split"], text)
    return {"mean_r2": metrics.mean_r2, "mae": {output.label: output.mae for output in metrics.per_label}}


def _write(directory: str, content: dict[str, Any], text: str, figure: bytes | None) -> None:
    files.write_json(files.join(directory, METRICS), content)
    files.write_bytes(files.join(directory, TABLE), (text + "\n").encode())
    if figure is not None:
        files.write_bytes(files.join(directory, FIGURE), figure)
