"""One recording of a waveform table as an ECG in mV with its findings, for pictures."""

from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Shards

_COLUMNS = ["record_id", "counts", "offset_mv", "gain_mv", "valid_samples", "findings"]
_SEVERITIES = ("severe", "warning", "info")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredECG:
    """A recording as the table holds it."""

    record_id: str
    millivolts: np.ndarray
    """[12, time], band-passed."""
    sampling_rate_hz: int
    findings: list[Finding]
    """The worst first."""

    @classmethod
    def read(cls, waveforms: Shards, part: int, row: int, preprocess: PreprocessConfig) -> "StoredECG":
        """By shard and row."""
        table = files.read_table(waveforms.part(part), _COLUMNS).slice(row, 1)
        waveform = Waveform(
            counts=tables.list_rows(table["counts"])[0].reshape(12, -1),
            offset_mv=tables.stack_rows(table["offset_mv"])[0],
            gain_mv=tables.stack_rows(table["gain_mv"])[0],
            valid_samples=tables.stack_rows(table["valid_samples"])[0],
        )
        findings = [Finding(**finding) for finding in table["findings"][0].as_py()]
        findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
        return cls(
            record_id=table["record_id"][0].as_py(),
            millivolts=waveform.millivolts(preprocess),
            sampling_rate_hz=preprocess.table_rate_hz,
            findings=findings,
        )
