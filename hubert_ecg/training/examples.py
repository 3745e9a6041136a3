"""From rows of the prepared tables to training examples: which rows, which crop of each, and its targets."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.preprocess import (
    AttendedSpans,
    PreprocessConfig,
    attention_mask,
    fully_attended,
    model_input,
    table_starts,
    token_mask,
)
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.augment import AugmentConfig, LabelledAugmentConfig, mix, union
from hubert_ecg.training.auxiliary import AuxiliaryTargets
from hubert_ecg.training.targets import CodeTargets, LabelTargets, ShardCodes, is_answered

INPUT = "input"
TARGET = "target"
MASK = "attention_mask"

ROWS_PER_TABLE = 256
_AUGMENT = 1
"""Sets the random numbers of augmentation apart from those of the crop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One crop of one recording."""

    record_id: str
    input: np.ndarray
    """[12 * T] float32 model input."""
    mask: np.ndarray | None
    """[12 * T] bool, False for samples that no token may attend to; None: all of them count."""
    target: np.ndarray | None
    """As its targets make it; None for an example without any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """The columns of one shard of a waveform table, and what goes with its rows."""

    part: int
    record_ids: list[str]
    counts: list[np.ndarray]
    """[12 * time] int16 per row."""
    valid_samples: np.ndarray
    """[row, 12] int32."""
    attended_s: list[AttendedSpans]
    labels: list[Any] | None = None
    """Per row its answers: the entry in the label column, or the entries of all columns that the targets read."""
    codes: ShardCodes | None = None


@dataclass(frozen=True, kw_only=True)
class ExampleReader:
    """Reads rows of a waveform table as training examples. Picklable: Ray tasks build their examples with it."""

    waveforms: Manifest
    preprocess: PreprocessConfig
    targets: CodeTargets | LabelTargets | AuxiliaryTargets | None
    seed: int
    fixed_crop: bool = False
    """Take the same crop of a recording every time (validation) instead of a random one (training)."""
    shuffled_among: tuple[np.ndarray, ...] | None = None
    """Rows per shard that exchange their answers at random: the control whose test AUROC must be near 0.5."""
    augment: AugmentConfig | None = None
    """Random changes, seeded like the crop; None: none."""
    mixed_among: tuple[np.ndarray, ...] | None = None
    """Rows per shard from which mixup takes the other recording."""

    def read(self, rows: np.ndarray) -> Iterator[pa.Table]:
        """[row, 3] (shard, row, stream position) in any order -> example tables in that order, a few at a time."""
        needed = sorted(set(rows[:, 0].tolist()))
        opened = {part: self.open(part) for part in needed}
        for start in range(0, len(rows), ROWS_PER_TABLE):
            chunk = rows[start : start + ROWS_PER_TABLE]
            places = [(opened[part], row, position) for part, row, position in chunk.tolist()]
            plain = self._plain_table(places) if self.augment is None else None
            yield example_table([self.example(*place) for place in places]) if plain is None else plain

    def open(self, part: int) -> Shard:
        """Read one shard and check that its codes are those of its recordings."""
        columns = ["record_id", "counts", "valid_samples", "attended_s"]
        of_recordings = self.targets if isinstance(self.targets, LabelTargets | AuxiliaryTargets) else None
        columns += [] if of_recordings is None else of_recordings.columns
        table = files.read_table(self.waveforms.part(part), columns)
        return Shard(
            part=part,
            record_ids=table["record_id"].to_pylist(),
            counts=tables.list_rows(table["counts"]),
            valid_samples=tables.stack_rows(table["valid_samples"]),
            attended_s=spans_of(table["attended_s"]),
            labels=None if of_recordings is None else self._shuffled(part, of_recordings.answers(table)),
            codes=self._codes(part, table["record_id"]) if isinstance(self.targets, CodeTargets) else None,
        )

    def example(self, shard: Shard, row: int, position: int) -> Example:
        """One row of a shard; `position` is its place in the stream, which with the seed decides all that is random."""
        plain = self._crop(shard, row, np.random.default_rng([self.seed, position]))
        if self.augment is None:
            return plain
        rng = np.random.default_rng([self.seed, position, _AUGMENT])
        if isinstance(self.augment, LabelledAugmentConfig) and self.augment.mixup:
            plain = self._mixed(shard, plain, self.augment.mixup, rng)
        samples, mask = self.augment.apply(plain.input, plain.mask, rng, self._attends)
        return replace(plain, input=samples, mask=mask)

    def _crop(self, shard: Shard, row: int, rng: np.random.Generator) -> Example:
        counts, valid_samples = shard.counts[row].reshape(12, -1), shard.valid_samples[row]
        start_s, target = self._crop_and_target(shard, row, rng)
        where = (valid_samples, shard.attended_s[row], start_s, self.preprocess)
        return Example(
            record_id=shard.record_ids[row],
            input=model_input(counts, start_s, self.preprocess, valid_samples),
            mask=None if fully_attended(*where) else attention_mask(*where),
            target=target,
        )

    def _plain_table(self, places: list[tuple[Shard, int, int]]) -> pa.Table | None:
        """The table of `example` for many places at once, several times as fast; None where masks are needed."""
        config = self.preprocess
        drawn = [self._crop_and_target(s, row, np.random.default_rng([self.seed, at])) for s, row, at in places]
        starts_s = np.array([start_s for start_s, _ in drawn])
        valid_samples = np.stack([shard.valid_samples[row] for shard, row, _ in places])
        if not fully_attended(valid_samples, [shard.attended_s[row] for shard, row, _ in places], starts_s, config):
            return None
        starts, length = table_starts(starts_s, config), config.table_crop_samples
        crops = np.empty((len(places), 12, length), np.int16)
        for crop, (shard, row, _), start in zip(crops, places, starts.tolist(), strict=True):
            crop[:] = shard.counts[row].reshape(12, -1)[:, start : start + length]
        return _table([s.record_ids[row] for s, row, _ in places], model_input(crops, 0.0, config), drawn)

    def _mixed(self, shard: Shard, first: Example, parameter: float, rng: np.random.Generator) -> Example:
        """An example mixed with another one of its shard; the mixture keeps the first one's name."""
        assert self.mixed_among is not None
        assert isinstance(self.targets, LabelTargets | AuxiliaryTargets)
        others = self.mixed_among[shard.part]
        share = float(rng.beta(parameter, parameter))
        second = self._crop(shard, int(others[rng.integers(len(others))]), rng)
        assert first.target is not None
        assert second.target is not None
        return replace(
            first,
            input=mix(first.input, second.input, share),
            mask=union(first.mask, second.mask),
            target=mix(self.targets.mixable(first.target), self.targets.mixable(second.target), share),
        )

    def _attends(self, mask: np.ndarray) -> bool:
        return bool(token_mask(mask, self.preprocess).any())

    def _crop_and_target(self, shard: Shard, row: int, rng: np.random.Generator) -> tuple[float, np.ndarray | None]:
        if isinstance(self.targets, CodeTargets):
            assert shard.codes is not None
            choices = shard.codes.starts_s[row]
            start_s = choices[len(choices) // 2 if self.fixed_crop else int(rng.integers(len(choices)))]
            return start_s, self.targets.target(shard.codes, row, start_s)
        recorded_s = int(shard.valid_samples[row].max()) / self.preprocess.table_rate_hz
        room = max(0.0, recorded_s - self.preprocess.crop_s)
        start_s = room / 2 if self.fixed_crop else float(rng.uniform(0, room))
        if self.targets is None or shard.labels is None:
            return start_s, None
        return start_s, self.targets.target(shard.labels[row], shard.record_ids[row])

    def _shuffled(self, part: int, labels: list[Any]) -> list[Any]:
        if self.shuffled_among is None:
            return labels
        among = self.shuffled_among[part]
        moved = np.random.default_rng([self.seed, part]).permutation(among)
        shuffled = list(labels)
        for to, origin in zip(among.tolist(), moved.tolist(), strict=True):
            shuffled[to] = labels[origin]
        return shuffled

    def _codes(self, part: int, record_ids: pa.ChunkedArray) -> ShardCodes:
        assert isinstance(self.targets, CodeTargets)
        codes = self.targets.read(part)
        if codes["record_id"].combine_chunks() != record_ids.combine_chunks():
            raise ArtifactError(
                f"{self.targets.codes.directory}: shard {part} does not list the recordings of "
                f"{self.waveforms.directory}; run jobs.label again on these waveforms"
            )
        return self.targets.by_row(codes)


def example_table(examples: list[Example]) -> pa.Table:
    """Examples with targets as a table: record_id, input, target, and a mask that is null where all samples count."""
    targets = np.stack([example.target for example in examples if example.target is not None])
    masks = [example.mask for example in examples]
    return pa.table(
        {
            "record_id": pa.array([example.record_id for example in examples], pa.string()),
            INPUT: tables.to_fixed_list_array(np.stack([example.input for example in examples]), pa.float32()),
            TARGET: tables.to_fixed_list_array(targets, pa.from_numpy_dtype(targets.dtype)),
            MASK: pa.array(masks, pa.list_(pa.bool_())),
        }
    )


def _table(record_ids: list[str], inputs: np.ndarray, drawn: list[tuple[float, np.ndarray | None]]) -> pa.Table:
    targets = np.stack([target for _, target in drawn if target is not None])
    return pa.table(
        {
            "record_id": pa.array(record_ids, pa.string()),
            INPUT: tables.to_fixed_list_array(inputs, pa.float32()),
            TARGET: tables.to_fixed_list_array(targets, pa.from_numpy_dtype(targets.dtype)),
            MASK: pa.nulls(len(record_ids), pa.list_(pa.bool_())),
        }
    )


def spans_of(column: pa.ChunkedArray) -> list[AttendedSpans]:
    """The rows of an `attended_s` column as [span, 2] seconds, None where everything recorded is attended to."""
    if column.null_count == len(column):
        return [None] * len(column)
    return [None if row is None else np.array(row, np.float32).reshape(-1, 2) for row in column.to_pylist()]


def select_rows(
    waveforms: Manifest, *, split: str, label_set: str | None = None, tag: str | None = None
) -> list[np.ndarray]:
    """Row numbers per shard that lie in a split, have an answer to a label set, and carry a tag, where asked."""
    columns = ["split", "tags"] + ([tables.LABEL_PREFIX + label_set] if label_set else [])
    selected = []
    for part in range(waveforms.parts):
        table = files.read_table(waveforms.part(part), columns)
        keep = np.array(table["split"].to_pylist(), object) == split
        if tag is not None:
            keep &= np.array([tag in (tags or ()) for tags in table["tags"].to_pylist()], bool)
        if label_set is not None:
            keep &= np.array([is_answered(answer) for answer in table[columns[-1]].to_pylist()], bool)
        selected.append(np.flatnonzero(keep))
    return selected
