"""How good the stored predictions of an evaluation are: metrics.json, a table as text and a figure."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.simulate import CONDITION_TITLES
from hubert_ecg.evaluation.bootstrap import bootstrap_auroc
from hubert_ecg.evaluation.metrics import evaluate_multi_label
from hubert_ecg.evaluation.permutation import shuffled_label_auroc
from hubert_ecg.evaluation.plots import save_auroc_figure
from hubert_ecg.evaluation.regression import evaluate_regression, regression_table
from hubert_ecg.evaluation.table import auroc_table
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards

log = logging.getLogger(__name__)

METRICS, FIGURE, TABLE = "metrics.json", "auroc.png", "table.txt"


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """All predictions of an evaluation. Shapes: N recordings, L labels."""

    labels: tuple[str, ...]
    task: str
    targets: np.ndarray
    """[N, L] bool, or float64 with NaN where unknown for a regression."""
    outputs: np.ndarray
    """[N, L] float64 probabilities, or predicted numbers."""
    patient_ids: list[str | None]

    @classmethod
    def read(cls, directory: str, parts: int, labels: tuple[str, ...], task: str) -> Self:
        """From the shards of an evaluation's directory."""
        shards = Shards(directory=directory, parts=parts)
        table = pa.concat_tables([files.read_table(shards.part(part)) for part in range(parts)])
        name = "prediction" if task == "regression" else "probability"
        return cls(
            labels=labels,
            task=task,
            targets=np.stack([table[f"target.{label}"].to_numpy() for label in labels], axis=1),
            outputs=np.stack([table[f"{name}.{label}"].to_numpy() for label in labels], axis=1).astype(np.float64),
            patient_ids=table["patient_id"].to_pylist(),
        )


def judge_predictions(
    predictions: Predictions,
    directory: str,
    *,
    thresholds: Sequence[float] | None,
    draws: int,
    seed: int,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write metrics, table and figure into the directory; returns what the manifest says of the result.

    `draws`: resamplings of patients behind each confidence interval. `about` goes into the metrics as it is.
    """
    if predictions.task == "regression":
        return _judge_numbers(predictions, directory, about)
    targets, outputs, labels = predictions.targets, predictions.outputs, predictions.labels
    metrics = evaluate_multi_label(targets, outputs, labels, thresholds)
    rng = np.random.default_rng(seed)
    intervals = bootstrap_auroc(targets, outputs, labels, rng=rng, patient_ids=predictions.patient_ids, draws=draws)
    shuffled = shuffled_label_auroc(targets, outputs, rng=rng)
    titles = {label: CONDITION_TITLES[label] for label in labels if label in CONDITION_TITLES}
    text = auroc_table(metrics, intervals, titles=titles)
    content = metrics.to_dict() | {
        "auroc_intervals": intervals.to_dict(),
        "shuffled_label_auroc": shuffled.to_dict(),
    }
    summary: dict[str, Any] = {"macro_auroc": intervals.to_dict()["macro"]}
    if predictions.task == "multi_class":
        summary["accuracy"] = float((outputs.argmax(axis=1) == targets.argmax(axis=1)).mean())
        text += f"\naccuracy {summary['accuracy']:.3f}"
    title = f"{metrics.recordings} recordings of split {about['split']}"
    figure = io.BytesIO()
    save_auroc_figure(figure, targets, outputs, labels, intervals, title=title, titles=titles)
    _write(directory, content | summary | about, text, figure.getvalue())
    log.info("evaluate: %s\n%s", title, text)
    return summary


def read_table_text(directory: str) -> str:
    """The table of an evaluation, as text."""
    return files.read_bytes(files.join(files.absolute(directory), TABLE)).decode()


def _judge_numbers(predictions: Predictions, directory: str, about: dict[str, Any]) -> dict[str, Any]:
    metrics = evaluate_regression(predictions.targets, predictions.outputs, predictions.labels)
    text = regression_table(metrics)
    _write(directory, metrics.to_dict() | about, text, None)
    log.info("evaluate: %d recordings of split %s\n%s", metrics.recordings, about["split"], text)
    return {"mean_r2": metrics.mean_r2, "mae": {output.label: output.mae for output in metrics.per_label}}


def _write(directory: str, content: dict[str, Any], text: str, figure: bytes | None) -> None:
    files.write_json(files.join(directory, METRICS), content)
    files.write_bytes(files.join(directory, TABLE), (text + "\n").encode())
    if figure is not None:
        files.write_bytes(files.join(directory, FIGURE), figure)
