"""One shard of predict: its recordings, read raw or from a waveform table, and the table of what is said of them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.measure import Measurement, Measurements, measure
from hubert_ecg.ecg.preprocess import Waveform
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.pipeline.extract import preprocess_of
from hubert_ecg.pipeline.predict_shard import TablePredictor
from hubert_ecg.pipeline.prepare_shard import ShardWork, to_table
from hubert_ecg.predictor import CropConfig, Outputs
from hubert_ecg.predictor.embedding import FINAL
from hubert_ecg.predictor.prediction import positive_labels
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, write_part

ALL = "all"
_MEASUREMENT = "_measurement"
_MEASURED = tuple(field.name for field in fields(Measurements) if field.name != "num_beats")


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardRows:
    """The recordings of one shard."""

    table: pa.Table
    """Rows of a waveform table."""
    listed: int
    set_aside: list[dict[str, str]]
    measurements: list[Measurements] | None = None
    """One per row, where asked for."""


class Rows(Protocol):
    """Where the rows of a shard come from; pickled to the workers."""

    def read(self, part: int, *, measurements: bool) -> ShardRows: ...


@dataclass(frozen=True, kw_only=True)
class RawShard:
    """Raw recordings, prepared as jobs.prepare would; measured as they were recorded."""

    work: ShardWork

    def read(self, part: int, *, measurements: bool) -> ShardRows:
        shard = self.work.read_shard(part, also=_measured if measurements else lambda _: {})
        return ShardRows(
            table=to_table(shard.rows, {}),
            listed=shard.listed,
            set_aside=shard.set_aside,
            measurements=[row[_MEASUREMENT] for row in shard.rows] if measurements else None,
        )


@dataclass(frozen=True, kw_only=True)
class PreparedRecordings:
    """Rows of a waveform table; measured as they stand in it, filtered and mostly at 100 Hz."""

    waveforms: Manifest
    split: str

    def read(self, part: int, *, measurements: bool) -> ShardRows:
        columns = ["record_id", "patient_id", "split", "findings", *TablePredictor.COLUMNS]
        table = files.read_table(
            self.waveforms.part(part), columns + (["offset_mv", "gain_mv"] if measurements else [])
        )
        if self.split != ALL:
            table = table.filter(pc.equal(table["split"], self.split))
        measured = [measure(recording) for recording in self._recordings(table)] if measurements else None
        return ShardRows(table=table, listed=len(table), set_aside=[], measurements=measured)

    def _recordings(self, table: pa.Table) -> list[Recording]:
        preprocess = preprocess_of(self.waveforms)
        columns = [tables.list_rows(table[name]) for name in ("counts", "offset_mv", "gain_mv", "valid_samples")]
        found = []
        for counts, offset_mv, gain_mv, valid_samples in zip(*columns, strict=True):
            waveform = Waveform(
                counts=counts.reshape(12, -1), offset_mv=offset_mv, gain_mv=gain_mv, valid_samples=valid_samples
            )
            samples = waveform.millivolts(preprocess)
            found.append(Recording(samples=samples, sampling_rate_hz=preprocess.table_rate_hz))
        return found


def _measured(recording: Recording) -> dict[str, Any]:
    return {_MEASUREMENT: measure(recording)}


class PredictionShard:
    """Reads, predicts and writes the recordings of one shard per call."""

    def __init__(
        self,
        directory: str,
        rows: Rows,
        checkpoint: str,
        crops: CropConfig,
        layers: Sequence[int],
        measurements: bool,
    ) -> None:
        self.directory, self.rows, self.measurements = directory, rows, measurements
        self.predict = TablePredictor(checkpoint, crops, layers=layers)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        shard = self.rows.read(task["part"], measurements=self.measurements)
        outputs = self.predict(shard.table)
        table = self.table(shard, outputs)
        withheld = [reason.partition(":")[0] for reason in table["abstained_because"].to_pylist() if reason]
        receipt = write_part(
            self.directory,
            task["part"],
            table,
            listed=shard.listed,
            set_aside=shard.set_aside,
            positive=dict(Counter(label for labels in table["positive"].to_pylist() for label in labels)),
            withheld=dict(Counter(withheld)),
            seconds=round(time.monotonic() - start, 3),
        )
        return {"part": receipt["part"], "rows": shard.listed}

    def table(self, shard: ShardRows, outputs: Outputs) -> pa.Table:
        """One row per recording."""
        predictor = self.predict.predictor
        name = "prediction" if predictor.task == "regression" else "probability"
        of_rows = [[Finding(**finding) for finding in of_row] for of_row in shard.table["findings"].to_pylist()]
        reasons = [
            predictor.abstention(*pair) for pair in zip(of_rows, outputs.spread.astype(float).tolist(), strict=True)
        ]
        positive = [
            positive_labels(predictor.labels, row, predictor.thresholds, predictor.task)
            for row in outputs.probabilities.astype(float).tolist()
        ]
        columns = {
            "record_id": shard.table["record_id"],
            "patient_id": shard.table["patient_id"],
            **_by_label(name, predictor.labels, outputs.probabilities),
            **(_by_label("raw", predictor.labels, outputs.raw) if predictor.calibration is not None else {}),
            **_by_label("spread", predictor.labels, outputs.spread),
            "positive": pa.array(positive, pa.list_(pa.string())),
            "abstained": pa.array([reason is not None for reason in reasons], pa.bool_()),
            "abstained_because": pa.array(reasons, pa.string()),
            "findings": shard.table["findings"],
        }
        if shard.measurements is not None:
            columns |= _measurement_columns(shard.measurements)
        for layer, vectors in outputs.embeddings.items():
            named = "embedding" if layer == FINAL else f"embedding.layer_{layer}"
            columns[named] = tables.to_fixed_list_array(vectors, pa.float32())
        return pa.table(columns)


def _by_label(name: str, labels: Sequence[str], values: np.ndarray) -> dict[str, pa.Array]:
    """[row, label] -> a column per label, null for NaN."""
    return {f"{name}.{label}": pa.array(values[:, i], pa.float32(), from_pandas=True) for i, label in enumerate(labels)}


def _measurement_columns(measurements: Sequence[Measurements]) -> dict[str, pa.Array]:
    """A column per measurement, null where it could not be had, and why it could not."""
    rows: list[list[Measurement]] = [[getattr(of_row, name) for name in _MEASURED] for of_row in measurements]
    units = {"heart_rate": "bpm", "axis": "deg"}
    columns = {
        f"{name}_{units.get(name, 'ms')}": pa.array([row[place].value for row in rows], pa.float32())
        for place, name in enumerate(_MEASURED)
    }
    reasons = [[f"{of.name}: {of.reason}" for of in row if of.value is None] for row in rows]
    return columns | {"not_measurable": pa.array(reasons, pa.list_(pa.string()))}
