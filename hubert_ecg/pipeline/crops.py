"""The crops of one shard of a waveform table, as model inputs with their masks, some at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.preprocess import (
    AttendedSpans,
    PreprocessConfig,
    attention_mask,
    fully_attended,
    model_input,
    token_mask,
)
from hubert_ecg.errors import ConfigError
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.examples import spans_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Crops:
    """The crops of some recordings of a shard, ready for a descriptor or a model."""

    rows: np.ndarray
    """[crop] int64 row of the recording in its shard."""
    starts_s: np.ndarray
    """[crop] float32 start within the recording, s."""
    inputs: np.ndarray
    """[crop, 12 * T] float32 model input."""
    attention: np.ndarray | None
    """[crop, 12 * T] bool, the samples that count; None where all do."""
    token_mask: np.ndarray | None
    """[crop, token] bool, the tokens that count; None where all do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WaveformShard:
    """The recordings of one shard of a waveform table."""

    record_ids: pa.ChunkedArray
    """[row] string."""
    splits: pa.ChunkedArray
    """[row] string."""
    counts: list[np.ndarray]
    """[12, time] int16 of each row."""
    valid_samples: np.ndarray
    """[row, 12] int32: samples of each lead that were recorded."""
    attended_s: list[AttendedSpans]
    """Of each row: the spans that count, None for all that was recorded."""
    preprocess: PreprocessConfig
    """The contract that the table was made under."""

    @classmethod
    def read(cls, waveforms: Manifest, part: int, preprocess: PreprocessConfig) -> "WaveformShard":
        columns = ["record_id", "split", "counts", "valid_samples", "attended_s"]
        table = files.read_table(waveforms.part(part), columns)
        return cls(
            record_ids=table["record_id"],
            splits=table["split"],
            counts=[row.reshape(12, -1) for row in tables.list_rows(table["counts"])],
            valid_samples=tables.stack_rows(table["valid_samples"]),
            attended_s=spans_of(table["attended_s"]),
            preprocess=preprocess,
        )

    def crops(self, starts_s: Sequence[float], at_once: int, rows: np.ndarray | None = None) -> Iterator[Crops]:
        """Every declared crop that fits its recording, in order of row and start, about `at_once` crops at a time.

        All crops of a recording come together. `rows`: ascending rows to take, all by default.
        """
        wanted = np.arange(len(self.counts)) if rows is None else rows
        step = max(1, at_once // len(starts_s))
        return (self._crops(wanted[begin : begin + step], starts_s) for begin in range(0, len(wanted), step))

    def _crops(self, wanted: np.ndarray, starts_s: Sequence[float]) -> Crops:
        lengths = np.array([self.counts[row].shape[1] for row in wanted.tolist()])
        fits = np.stack([fits_at(start, lengths, self.preprocess) for start in starts_s], axis=1)
        places, which = np.nonzero(fits)
        rows, starts = wanted[places], np.asarray(starts_s, np.float64)[which]
        valid, spans = self.valid_samples[rows], [self.attended_s[row] for row in rows.tolist()]
        attention = None
        if not fully_attended(valid, spans, starts, self.preprocess):
            attention = attention_mask(valid, spans, starts, self.preprocess)
        return Crops(
            rows=rows,
            starts_s=starts.astype(np.float32),
            inputs=self._inputs(rows, starts, lengths[places]),
            attention=attention,
            token_mask=None if attention is None else token_mask(attention, self.preprocess),
        )

    def _inputs(self, rows: np.ndarray, starts_s: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[crop, 12 * T] float32, made together for all crops of one length and start: mostly one step per start."""
        inputs = np.empty((len(rows), 12 * self.preprocess.crop_samples), np.float32)
        for length in np.unique(lengths):
            for start in np.unique(starts_s[lengths == length]):
                chosen = np.flatnonzero((lengths == length) & (starts_s == start))
                stacked = np.stack([self.counts[row] for row in rows[chosen].tolist()])
                inputs[chosen] = model_input(stacked, float(start), self.preprocess, self.valid_samples[rows[chosen]])
        return inputs


def fits_at(start_s: float, num_samples: np.ndarray, preprocess: PreprocessConfig) -> np.ndarray:
    """Whether a crop that starts at `start_s` lies within waveforms of so many table samples. [row] -> [row] bool.

    The one at 0 always counts: a waveform shorter than a crop is padded.
    """
    if start_s == 0:
        return np.ones(len(num_samples), bool)
    return round(start_s * preprocess.table_rate_hz) + preprocess.table_crop_samples <= num_samples


def check_crop_starts(starts_s: Sequence[float]) -> None:
    """ConfigError unless the starts are distinct, ascending and not negative; the first must be 0 to fit every ECG."""
    if not starts_s or list(starts_s) != sorted(set(starts_s)) or starts_s[0] != 0:
        raise ConfigError(
            f"--crop_starts_s: wanted ascending starts in seconds, the first 0, got {list(starts_s)}; try '[0, 2.5, 5]'"
        )
