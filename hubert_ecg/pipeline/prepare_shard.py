"""One shard of prepare: read its recordings, look them over, filter and scale them, and write the table."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.datasets.deidentify import hash_id
from hubert_ecg.datasets.duplicates import content_hash, signature
from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.datasets.source import Source
from hubert_ecg.ecg.examine import all_findings, signal_problems
from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform, prepare_waveform
from hubert_ecg.ecg.quality import QualityConfig
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.pipeline.prepare_summary import summarise
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import write_part

LISTING = "listing.parquet"
AHEAD = 8
"""Recordings that are on their way from an object store while another one is prepared."""

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
        shard = self.read_shard(task["part"])
        table = to_table(shard.rows, self.label_tasks)
        return write_part(
            self.directory,
            task["part"],
            table,
            listed=shard.listed,
            set_aside=shard.set_aside,
            splits=dict(Counter(row["split"] for row in shard.rows)),
            tags=dict(Counter(tag for row in shard.rows for tag in row["tags"] or ())),
            summary=summarise(table, self.label_tasks, self.preprocess),
            seconds=round(time.monotonic() - start, 3),
        )

    def read_shard(self, part: int, also: Callable[[Recording], dict[str, Any]] = lambda _: {}) -> "PreparedRows":
        """Read and prepare what one shard lists. `also`: further entries of a row, made from the recording itself."""
        listed = files.read_row_group(files.join(self.directory, LISTING), part).to_pylist()
        rows: list[dict[str, Any]] = []
        set_aside: list[dict[str, str]] = []
        for row, read in read_ahead(self.source, listed):
            try:
                prepared, recording = self.prepared(row, read())
                rows.append(prepared | also(recording))
            except RecordingError as error:
                detail = self._described(error, row)
                set_aside.append({"record_id": row["record_id"], "reason": error.reason, "detail": detail})
        return PreparedRows(listed=len(listed), rows=rows, set_aside=set_aside)

    def prepared(self, row: dict[str, Any], read: Recording) -> tuple[dict[str, Any], Recording]:
        """The table row of one listed recording, and what it was made from. Raises RecordingError when unusable."""
        recording = standard_12_lead(read, missing=self.preprocess.missing_leads)
        problems = signal_problems(recording, missing_leads=self.preprocess.missing_leads, quality=self.quality)
        if self.policy == "set_aside":
            _refuse_severe(recording, problems)
        waveform = prepare_waveform(recording, self.preprocess)
        return self._row(row, recording, waveform, all_findings(recording, problems, waveform.findings)), recording

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


def read_ahead(
    source: Source, listed: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Callable[[], Recording]]]:
    """(row, its reading) in order; calling the latter gives the recording or raises what reading it raised.

    From an object store some recordings are asked for before their turn: an answer takes ten times as long to come as
    a recording takes to be prepared. Recordings of a batch lie in one file, which is fetched once for all of them.
    """
    remote = [
        "://" in files.within(getattr(source, "input", ""), row["path"]) and "#" not in row["path"] for row in listed
    ]
    if not listed or not all(remote):
        yield from ((row, partial(source.read, row)) for row in listed)
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[Recording]] = deque(pool.submit(source.read, row) for row in listed[:AHEAD])
        for place, row in enumerate(listed):
            reading = waiting.popleft()
            if place + AHEAD < len(listed):
                waiting.append(pool.submit(source.read, listed[place + AHEAD]))
            yield row, reading.result


@dataclass(frozen=True, kw_only=True)
class PreparedRows:
    """What came of the recordings that a shard lists."""

    listed: int
    rows: list[dict[str, Any]]
    """The usable ones, as rows of the waveform table."""
    set_aside: list[dict[str, str]]
    """The others: record_id, reason and detail."""


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
