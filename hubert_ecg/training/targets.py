"""What an example is trained towards: token codes of its crop, or labels, a class or numbers of its recording."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, open_artifact

if TYPE_CHECKING:
    # Processes that only read examples do without torch, which takes seconds to import.
    from hubert_ecg.models.config import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardCodes:
    """The codes of one shard, at hand row by row."""

    starts_s: list[list[float]]
    """Per row the crop starts that it has codes for."""
    codes: list[list[np.ndarray]]
    """Per codebook and row [crop * token] uint16."""


@dataclass(frozen=True, kw_only=True)
class CodeTargets:
    """Token codes of one or several codebooks; the crop is one of the labelled crop starts."""

    codes: Manifest
    codebooks: tuple[str, ...]
    num_tokens: int

    def read(self, part: int) -> pa.Table:
        return files.read_table(self.codes.part(part))

    def by_row(self, table: pa.Table) -> ShardCodes:
        """A table that `read` gave."""
        return ShardCodes(
            starts_s=table["crop_starts_s"].to_pylist(),
            codes=[tables.list_rows(table[f"codes.{name}"]) for name in self.codebooks],
        )

    def target(self, shard: ShardCodes, row: int, start_s: float) -> np.ndarray:
        """[codebook * token] uint16, `NO_CODE` for tokens that are not attended to."""
        crop = shard.starts_s[row].index(start_s)
        of_crop = slice(crop * self.num_tokens, (crop + 1) * self.num_tokens)
        return np.concatenate([rows[row][of_crop] for rows in shard.codes])


def open_codes(codes: str, waveforms: Manifest, *, role: str) -> Manifest:
    """The output of jobs.label for these waveforms. Raises ArtifactError when it was made from others."""
    labels = open_artifact(codes, verb="label", role=role)
    if labels.inputs["waveforms"] != waveforms.fingerprint:
        raise ArtifactError(
            f"{codes}: made from waveforms {labels.inputs['waveforms']}, {waveforms.directory} is "
            f"{waveforms.fingerprint}; run jobs.label on these waveforms"
        )
    return labels


@dataclass(frozen=True, kw_only=True)
class LabelTargets:
    """The answers to one label set; the crop may start anywhere."""

    label_set: str
    labels: tuple[str, ...]
    task: "Task" = "multi_label"
    none_is_negative: bool = False
    """Whether a recording without any of the labels is known to have none of them."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of a waveform table that are read."""
        return (tables.LABEL_PREFIX + self.label_set,)

    def answers(self, table: pa.Table) -> list[Any]:
        """Per row of a waveform table its entry in the label column, which `target` takes."""
        found: list[Any] = table[self.columns[0]].to_pylist()
        return found

    def is_known(self, answer: list[Any] | None) -> bool:
        """Whether an entry of the label column tells anything of every label."""
        return is_answered(answer) or (self.none_is_negative and self.task == "multi_label")

    def shares(self, answer: list[Any] | None, record_id: str) -> np.ndarray:
        """[label] float32: a target as shares that can be mixed, NaN where nobody has answered."""
        if not self.is_known(answer):
            return np.full(len(self.labels), np.nan, np.float32)
        return self.mixable(self.target(answer, record_id))

    def target(self, answer: list[Any] | None, record_id: str) -> np.ndarray:
        """What a model learns from one recording's entry in the label column.

        multi_label: [label] float32, 1 where the recording carries the label. multi_class: [1] int64, the number of its
        class; ArtifactError unless it has exactly one. regression: [label] float32, NaN where there is no number.
        """
        if self.task == "regression":
            return self._numbers(answer, record_id)
        present = set(answer or ())
        positive = np.array([label in present for label in self.labels], np.float32)
        if self.task == "multi_label":
            return positive
        if positive.sum() != 1:
            raise ArtifactError(
                f"{record_id}: wanted exactly one class of {self.label_set}, got {sorted(present) or 'none'}; "
                f"correct the labels and run jobs.prepare again"
            )
        return np.flatnonzero(positive)

    def mixable(self, target: np.ndarray) -> np.ndarray:
        """A target as shares that can be mixed: a class as [label] float32, 1 at its number; others are that already.

        A number that is unknown in one of two recordings is unknown in their mixture.
        """
        return np.eye(len(self.labels), dtype=np.float32)[target[0]] if self.task == "multi_class" else target

    def _numbers(self, answer: list[Any] | None, record_id: str) -> np.ndarray:
        if not answer:
            return np.full(len(self.labels), np.nan, np.float32)
        if len(answer) != len(self.labels):
            raise ArtifactError(
                f"{record_id}: wanted {len(self.labels)} numbers of {self.label_set}, got {len(answer)}; "
                f"run jobs.prepare again"
            )
        return np.array([np.nan if number is None else number for number in answer], np.float32)


def is_answered(answer: list[Any] | None) -> bool:
    """Whether an entry of a label column says anything: a label, a class, or a number that is not NaN."""
    return any(value is not None and value == value for value in answer or ())
