"""From rows of the prepared tables to training examples: which rows, which crop of each, and its targets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest

INPUT = "input"
TARGET = "target"


@dataclass(frozen=True, kw_only=True)
class CodeTargets:
    """Token codes of one or several codebooks; the crop is one of the labelled crop starts."""

    codes: Manifest
    codebooks: tuple[str, ...]
    num_tokens: int

    def read(self, part: int) -> pa.Table:
        return files.read_table(self.codes.part(part))

    def choices(self, table: pa.Table, row: int) -> list[float]:
        starts: list[float] = table["crop_starts_s"][row].as_py()
        return starts

    def target(self, table: pa.Table, row: int, start_s: float) -> np.ndarray:
        """[codebook * token] uint16."""
        crop = self.choices(table, row).index(start_s)
        of_crop = slice(crop * self.num_tokens, (crop + 1) * self.num_tokens)
        rows = [table[f"codes.{name}"][row].values.to_numpy()[of_crop] for name in self.codebooks]
        return np.concatenate(rows)


@dataclass(frozen=True, kw_only=True)
class LabelTargets:
    """Multi-hot labels of one label set; the crop may start anywhere."""

    label_set: str
    labels: tuple[str, ...]

    def target(self, names: list[str]) -> np.ndarray:
        """[label] float32, 1 where the recording carries the label."""
        present = set(names)
        return np.array([label in present for label in self.labels], np.float32)


@dataclass(frozen=True, kw_only=True)
class ExampleReader:
    """Reads rows of a waveform table as training examples. Picklable: Ray tasks build their examples with it."""

    waveforms: Manifest
    preprocess: PreprocessConfig
    targets: CodeTargets | LabelTargets
    seed: int
    fixed_crop: bool = False
    """Take the same crop of a recording every time (validation) instead of a random one (training)."""
    shuffled_among: tuple[np.ndarray, ...] | None = None
    """Rows per shard that exchange their labels at random: the control whose test AUROC must be near 0.5."""

    def read(self, rows: np.ndarray) -> Iterator[pa.Table]:
        """[row, 3] (shard, row, stream position) in any order -> example tables in that order, a few at a time."""
        needed = sorted(set(rows[:, 0].tolist()))
        opened = {part: self._open(part) for part in needed}
        for start in range(0, len(rows), 256):
            chunk = rows[start : start + 256]
            yield self._table([self._example(opened[part], row, position) for part, row, position in chunk.tolist()])

    def _open(self, part: int) -> dict[str, Any]:
        columns = ["record_id", "counts"]
        if isinstance(self.targets, LabelTargets):
            columns.append(tables.LABEL_PREFIX + self.targets.label_set)
        table = files.read_table(self.waveforms.part(part), columns)
        shard: dict[str, Any] = {"ids": table["record_id"], "counts": tables.list_rows(table["counts"])}
        if isinstance(self.targets, LabelTargets):
            shard["labels"] = table[columns[-1]].to_pylist()
            if self.shuffled_among is not None:
                among = self.shuffled_among[part]
                moved = np.random.default_rng([self.seed, part]).permutation(among)
                original = list(shard["labels"])
                for to, origin in zip(among.tolist(), moved.tolist(), strict=True):
                    shard["labels"][to] = original[origin]
        else:
            shard["codes"] = self.targets.read(part)
            if shard["codes"]["record_id"].combine_chunks() != shard["ids"].combine_chunks():
                raise ArtifactError(
                    f"{self.targets.codes.directory}: shard {part} does not list the recordings of "
                    f"{self.waveforms.directory}; run jobs.label again on these waveforms"
                )
        return shard

    def _example(self, shard: dict[str, Any], row: int, position: int) -> tuple[str, np.ndarray, np.ndarray]:
        counts = shard["counts"][row].reshape(12, -1)
        rng = np.random.default_rng([self.seed, position])
        if isinstance(self.targets, CodeTargets):
            choices = self.targets.choices(shard["codes"], row)
            start_s = choices[len(choices) // 2 if self.fixed_crop else int(rng.integers(len(choices)))]
            target = self.targets.target(shard["codes"], row, start_s)
        else:
            room = max(0.0, counts.shape[1] / self.preprocess.table_rate_hz - self.preprocess.crop_s)
            start_s = room / 2 if self.fixed_crop else float(rng.uniform(0, room))
            target = self.targets.target(shard["labels"][row])
        return shard["ids"][row].as_py(), model_input(counts, start_s, self.preprocess), target

    @staticmethod
    def _table(examples: list[tuple[str, np.ndarray, np.ndarray]]) -> pa.Table:
        ids, inputs, targets = zip(*examples, strict=True)
        stacked = np.stack(targets)
        kind = pa.uint16() if stacked.dtype == np.uint16 else pa.float32()
        return pa.table(
            {
                "record_id": pa.array(ids, pa.string()),
                INPUT: tables.to_fixed_list_array(np.stack(inputs), pa.float32()),
                TARGET: tables.to_fixed_list_array(stacked, kind),
            }
        )


def select_rows(
    waveforms: Manifest, *, split: str, label_set: str | None = None, tag: str | None = None
) -> list[np.ndarray]:
    """Row numbers per shard that lie in a split, carry at least one label of a set, and carry a tag, where asked."""
    columns = ["split", "tags"] + ([tables.LABEL_PREFIX + label_set] if label_set else [])
    selected = []
    for part in range(waveforms.parts):
        table = files.read_table(waveforms.part(part), columns)
        keep = np.array(table["split"].to_pylist(), object) == split
        if tag is not None:
            keep &= np.array([tag in (tags or ()) for tags in table["tags"].to_pylist()], bool)
        if label_set is not None:
            keep &= np.array([bool(names) for names in table[columns[-1]].to_pylist()], bool)
        selected.append(np.flatnonzero(keep))
    return selected
