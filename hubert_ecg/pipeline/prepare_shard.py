"""One shard of prepare: read its recordings, look them over, filter and scale them, and write the table."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.datasets.deidentify import hash_id
from hubert_ecg.datasets.duplicates import content_hash, signature
from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.datasets.source import Source
from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform, prepare_waveform
from hubert_ecg.ecg.quality import QualityConfig, find_problems
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.pipeline.prepare_summary import summarise
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import write_part

LISTING = "listing.parquet"

FindingPolicy = Literal["keep", "warn", "set_aside"]


@dataclass(frozen=True, kw_only=True)
class ShardWork:
    """What a worker needs to prepare any shard of a run; called with a task that names the shard."""

    directory: str
    source: Source
    preprocess: PreprocessConfig
    quality: QualityConfig
    policy: FindingPolicy
    label_tasks: dict[str, str]
    salt: bytes | None = None
    """Where given, ids were hashed with it, and nothing that could hold a name may be written."""

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """Prepare one shard and return its receipt; what cannot be used stands in it with its reason."""
        start = time.monotonic()
        listed = files.read_row_group(files.join(self.directory, LISTING), task["part"]).to_pylist()
        rows: list[dict[str, Any]] = []
        set_aside: list[dict[str, str]] = []
        for row in listed:
            try:
                rows.append(self._prepare(row))
            except RecordingError as error:
                detail = self._described(error, row)
                set_aside.append({"record_id": row["record_id"], "reason": error.reason, "detail": detail})
        table = to_table(rows, self.label_tasks)
        return write_part(
            self.directory,
            task["part"],
            table,
            listed=len(listed),
            set_aside=set_aside,
            splits=dict(Counter(row["split"] for row in rows)),
            tags=dict(Counter(tag for row in rows for tag in row["tags"] or ())),
            summary=summarise(table, self.label_tasks, self.preprocess),
            seconds=round(time.monotonic() - start, 3),
        )

    def _prepare(self, row: dict[str, Any]) -> dict[str, Any]:
        """The table row of one listed recording. Raises RecordingError when it cannot be used."""
        recording = standard_12_lead(self.source.read(row), missing=self.preprocess.missing_leads)
        problems = self._problems(recording)
        if self.policy == "set_aside":
            _refuse_severe(recording, problems)
        waveform = prepare_waveform(recording, self.preprocess)
        # A reader may have said already what is found here again, such as a wrong unit.
        said = {(finding.kind, finding.lead, finding.start_s) for finding in recording.findings}
        new = [finding for finding in problems if (finding.kind, finding.lead, finding.start_s) not in said]
        return self._row(row, recording, waveform, (*recording.findings, *new, *waveform.findings))

    def _problems(self, recording: Recording) -> list[Finding]:
        """What is wrong with the signal. That a lead holds nothing is none where zeros may stand for it: it is masked,
        and said elsewhere."""
        problems = find_problems(recording, self.quality)
        if self.preprocess.missing_leads == "refuse":
            return problems
        there = dict(zip(recording.lead_names, np.isfinite(recording.samples).any(axis=1), strict=True))
        return [problem for problem in problems if problem.kind != "not recorded" or there[problem.lead or ""]]

    def _row(
        self, row: dict[str, Any], recording: Recording, waveform: Waveform, findings: Sequence[Finding]
    ) -> dict[str, Any]:
        """What was listed wins; what only the file knew fills the gaps."""
        patient_id, split = row["patient_id"], row["split"]
        if patient_id is None and recording.patient_id is not None:
            patient_id = hash_id(recording.patient_id, self.salt) if self.salt else recording.patient_id
            if isinstance(self.source, FilesSource):
                split = self.source.split_of(recording.patient_id, split)
        return row | {
            "patient_id": patient_id,
            "split": split,
            "age_years": recording.age_years if row["age_years"] is None else row["age_years"],
            "sex": row["sex"] or recording.sex,
            "source_rate_hz": recording.sampling_rate_hz,
            "counts": waveform.counts.reshape(-1),
            "offset_mv": waveform.offset_mv,
            "gain_mv": waveform.gain_mv,
            "valid_samples": waveform.valid_samples,
            "attended_s": None if waveform.attended_s is None else waveform.attended_s.reshape(-1),
            "findings": [finding.to_dict() for finding in findings],
            "content_hash": content_hash(waveform.counts),
            "signature": signature(waveform.counts).tobytes(),
        }

    def _described(self, error: RecordingError, row: dict[str, Any]) -> str:
        """The message of an error; with hashed ids only its reason, for paths and file contents can name people."""
        return f"{row['record_id']}: {error.reason}" if self.salt else str(error)


def to_table(rows: list[dict[str, Any]], label_tasks: dict[str, str]) -> pa.Table:
    """Rows as dictionaries -> the waveform table."""
    schema = tables.waveform_schema(label_tasks)
    columns = []
    for column in schema:
        values = [row[column.name] for row in rows]
        if column.name == "counts":
            columns.append(tables.to_list_array(values, pa.int16()))
        elif pa.types.is_fixed_size_list(column.type):
            kind = column.type.value_type
            columns.append(tables.to_fixed_list_array(np.array(values, kind.to_pandas_dtype()).reshape(-1, 12), kind))
        else:
            columns.append(pa.array(values, column.type))
    return pa.table(columns, schema=schema)


def _refuse_severe(recording: Recording, problems: Sequence[Finding]) -> None:
    severe = [problem for problem in (*recording.findings, *problems) if problem.severity == "severe"]
    if severe:
        described = "; ".join(f"{problem.kind}{f' {problem.lead}' if problem.lead else ''}" for problem in severe[:6])
        raise RecordingError(
            f"quality: {severe[0].kind}",
            f"{recording.record_id}: {len(severe)} severe findings ({described}), and --findings is set_aside",
        )
