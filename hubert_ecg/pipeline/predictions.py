"""The stored predictions of an evaluation as arrays. Shapes: N recordings, L labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from hubert_ecg.evaluation.metrics import DEFAULT_THRESHOLD
from hubert_ecg.models.config import Task
from hubert_ecg.pipeline.evaluate_shard import Question
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """All predictions of an evaluation, of the labels that are judged."""

    labels: tuple[str, ...]
    task: Task
    """`multi_label` where a label map translates, whatever the classifier's."""
    targets: np.ndarray
    """[N, L] bool, or float64 with NaN where unknown for a regression."""
    outputs: np.ndarray
    """[N, L] float64 probabilities, calibrated where the checkpoint is, or predicted numbers."""
    raw: np.ndarray
    """[N, L] float64 probabilities before calibration; the outputs for a regression."""
    predicted: np.ndarray
    """[N, L] bool: probabilities at or above thresholds, or the most probable class; all false for a regression."""
    thresholds: tuple[float, ...] | None
    """Per label; None where decisions rest on other things."""
    record_ids: list[str]
    patient_ids: list[str | None]
    places: np.ndarray
    """[N, 2] shard and row in the waveform table."""
    ages_years: list[float | None]
    sexes: list[str | None]
    quality: list[str]
    """Severity of the worst finding, `none` where there is none."""
    abstained: list[str | None]
    """Why the checkpoint's rule withholds a prediction; None: it does not."""
    present: list[list[str]]
    """All labels of the label set that a recording carries."""

    @classmethod
    def read(cls, directory: str, parts: int, question: Question, thresholds: Sequence[float] | None = None) -> Self:
        """From the shards of a directory that `PredictShard` wrote; thresholds are the checkpoint's, 0.5 without."""
        shards = Shards(directory=directory, parts=parts)
        read = [files.read_table(shards.part(part)) for part in range(parts)]
        table = pa.concat_tables(read)
        numbers = question.task == "regression"
        own = _columns(table, "prediction" if numbers else "probability", question.labels).astype(np.float64)
        raw = own if numbers else _columns(table, "raw", question.labels).astype(np.float64)
        limits = np.array(thresholds or [DEFAULT_THRESHOLD] * len(question.labels))
        decided = _decided(own, limits, question.task)
        part_of = np.repeat(np.arange(parts), [len(shard) for shard in read])
        mapped = question.judged is not None
        single = not mapped or all(len(label.checkpoint) == 1 for label in question.judged or ())
        shown = _merged(limits[None], question)[0] if question.task == "multi_label" and single else None
        return cls(
            labels=question.names,
            task="multi_label" if mapped else question.task,
            targets=_columns(table, "target", question.names).astype(np.float64 if numbers else bool),
            outputs=_merged(own, question),
            raw=_merged(raw, question),
            predicted=_merged(decided.astype(np.float64), question) > 0,
            thresholds=None if shown is None else tuple(shown.tolist()),
            record_ids=table["record_id"].to_pylist(),
            patient_ids=table["patient_id"].to_pylist(),
            places=np.stack([part_of, table["row"].to_numpy()], axis=1),
            ages_years=table["age_years"].to_pylist(),
            sexes=table["sex"].to_pylist(),
            quality=table["quality"].to_pylist(),
            abstained=table["abstained"].to_pylist(),
            present=[] if numbers else [names or [] for names in table["labels"].to_pylist()],
        )


def spread_of(directory: str, parts: int, question: Question) -> np.ndarray:
    """[N, L] float64: standard deviation over the crops of every label of the classifier; NaN for one crop."""
    shards = Shards(directory=directory, parts=parts)
    table = pa.concat_tables([files.read_table(shards.part(part)) for part in range(parts)])
    return _columns(table, "spread", question.labels).astype(np.float64)


def _columns(table: pa.Table, name: str, labels: Sequence[str]) -> np.ndarray:
    return np.stack([table[f"{name}.{label}"].to_numpy() for label in labels], axis=1)


def _decided(outputs: np.ndarray, limits: np.ndarray, task: Task) -> np.ndarray:
    if task == "regression":
        return np.zeros(outputs.shape, bool)
    if task == "multi_class":
        return np.eye(outputs.shape[1], dtype=bool)[outputs.argmax(axis=1)]
    # As the predictor decides: float32 probabilities against float64 thresholds.
    decided: np.ndarray = outputs >= limits
    return decided


def _merged(values: np.ndarray, question: Question) -> np.ndarray:
    """[N, classifier's labels] -> [N, judged labels]: the greatest of a group, the sum of exclusive classes."""
    if question.judged is None:
        return values
    reduce = np.sum if question.task == "multi_class" else np.max
    groups = [[question.labels.index(name) for name in label.checkpoint] for label in question.judged]
    # Rounding may carry a sum of probabilities beyond 1.
    return np.stack([np.minimum(reduce(values[:, group], axis=1), 1.0) for group in groups], axis=1)
