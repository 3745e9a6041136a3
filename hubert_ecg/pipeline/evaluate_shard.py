"""What evaluate and calibrate have a classifier say of the rows of a waveform table, shard by shard."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from hubert_ecg.datasets.label_map import JudgedLabel
from hubert_ecg.ecg.finding import Finding
from hubert_ecg.models.config import Task
from hubert_ecg.pipeline.predict_shard import TablePredictor
from hubert_ecg.predictor import CropConfig, Outputs
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, write_part
from hubert_ecg.training.targets import LabelTargets

_SEVERITIES = ("severe", "warning", "info")
NO_FINDING = "none"
_CARRIED = ("record_id", "patient_id", "age_years", "sex")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a classifier is asked, and where the answers stand."""

    label_set: str
    """Of the waveform table."""
    labels: tuple[str, ...]
    """The classifier's."""
    task: Task
    judged: tuple[JudgedLabel, ...] | None = None
    """What is judged where a label map translates; None: the classifier's own labels."""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that are judged."""
        return self.labels if self.judged is None else tuple(label.name for label in self.judged)

    def to_json(self) -> dict[str, Any]:
        """A JSON value, which `from_json` turns back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What an evaluation says of its question."""
        judged = value["judged"]
        if judged is not None:
            judged = tuple(
                JudgedLabel(name=one["name"], checkpoint=tuple(one["checkpoint"]), data=tuple(one["data"]))
                for one in judged
            )
        return cls(label_set=value["label_set"], labels=tuple(value["labels"]), task=value["task"], judged=judged)

    def truth(self, answers: Sequence[list[Any] | None], record_ids: Sequence[str]) -> np.ndarray:
        """[N, L]: bool, or the numbers of a regression, from entries of the label column."""
        if self.judged is not None:
            found = [[bool(set(label.data) & set(answer or ())) for label in self.judged] for answer in answers]
            return np.array(found, bool).reshape(len(answers), len(self.judged))
        targets = LabelTargets(label_set=self.label_set, labels=self.labels, task=self.task)
        rows = [targets.target(*pair) for pair in zip(answers, record_ids, strict=True)]
        if self.task == "regression":
            return np.array(rows, np.float64).reshape(len(answers), len(self.labels))
        if self.task == "multi_class":
            return np.eye(len(self.labels), dtype=bool)[[int(row[0]) for row in rows]].reshape(-1, len(self.labels))
        return np.array(rows, np.float32).reshape(len(answers), len(self.labels)) > 0


class PredictShard:
    """Predicts and writes the chosen recordings of one shard per call.

    One row per recording: ids, `row` of the shard in W, age, sex, the worst finding on its quality, why the rule of the
    checkpoint withholds it, all its `labels`; then `target.<label>` of what is judged, and per label of the classifier
    `probability.<label>`, `raw.<label>` (before calibration) and `spread.<label>` (over crops), or
    `prediction.<label>`.
    """

    def __init__(
        self, directory: str, waveforms: Manifest, checkpoint: str, question: Question, crops: CropConfig
    ) -> None:
        self.directory, self.waveforms, self.question = directory, waveforms, question
        self.predict = TablePredictor(checkpoint, crops)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        part, rows = task["part"], np.array(task["rows"], np.int64)
        answers = tables.LABEL_PREFIX + self.question.label_set
        columns = [*_CARRIED, "findings", *TablePredictor.COLUMNS, answers]
        table = files.read_table(self.waveforms.part(part), columns).take(pa.array(rows))
        outputs = self.predict(table)
        findings = [[Finding(**found) for found in of_row or ()] for of_row in table["findings"].to_pylist()]
        rule = self.predict.predictor.abstention
        reasons = [rule(of_row, spread) for of_row, spread in zip(findings, outputs.spread.tolist(), strict=True)]
        found: dict[str, Any] = {name: table[name] for name in _CARRIED} | {
            "row": pa.array(rows, pa.int64()),
            "quality": pa.array([_worst(of_row) for of_row in findings], pa.string()),
            "abstained": pa.array(reasons, pa.string()),
        }
        if self.question.task != "regression":
            found["labels"] = table[answers]
        truth = self.question.truth(table[answers].to_pylist(), table["record_id"].to_pylist())
        kind = pa.float32() if self.question.task == "regression" else pa.bool_()
        for column, name in enumerate(self.question.names):
            found[f"target.{name}"] = pa.array(truth[:, column], kind)
        receipt = write_part(self.directory, part, pa.table(found | self._outputs(outputs)))
        return {"part": part, "rows": receipt["rows"]}

    def _outputs(self, outputs: Outputs) -> dict[str, pa.Array]:
        values = {"prediction": outputs.probabilities}
        if self.question.task != "regression":
            values = {"probability": outputs.probabilities, "raw": outputs.raw, "spread": outputs.spread}
        return {
            f"{name}.{label}": pa.array(of[:, column], pa.float32())
            for name, of in values.items()
            for column, label in enumerate(self.question.labels)
        }


def _worst(findings: Sequence[Finding]) -> str:
    """The severity of the worst finding, `none` where there is none."""
    present = {finding.severity for finding in findings}
    return next((severity for severity in _SEVERITIES if severity in present), NO_FINDING)
