"""dump: one row of features per token, for all recordings, a span of them, or a seeded sample."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.errors import ArtifactError, ConfigError, InputError
from hubert_ecg.pipeline.crops import Crops, WaveformShard, check_crop_starts
from hubert_ecg.pipeline.extract import (
    LATENT,
    Extractor,
    Feature,
    LatentSource,
    Precision,
    check_work,
    describe_descriptor,
    describe_latent,
    finite_crops,
    preprocess_of,
    set_aside,
    set_aside_facts,
)
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class DumpConfig:
    """Compute token descriptors, or the outputs of an encoder layer, for the k-means fit and for study."""

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    output: str
    """Directory to write the feature table F to."""
    descriptor: Literal["time_frequency", "mfcc", "mixed", "latent"] = "mfcc"
    """16 time-frequency numbers, 39 MFCC, 16 + 13 of both, or the output of an encoder layer."""
    checkpoint: str | None = None
    """Pre-trained checkpoint C (a directory, or a `.pt` file of the original project); for `latent` only."""
    layer: int | None = None
    """Encoder layer whose output is taken, 0-based; for `latent` only."""
    precision: Precision = "float32"
    """Arithmetic of the model, for `latent` only; the codebook fitted to the features carries it."""
    split: Literal["train", "val", "test", "all"] = "train"
    """Recordings to take; the codebook of a fair experiment sees training recordings only."""
    start_fraction: float = 0.0
    """First recording to take, as a share of those of the split in the order of the table; 0.25 leaves out the first
    quarter."""
    end_fraction: float = 1.0
    """Recording to stop before, as such a share. Spans that meet at a fraction share no recording and miss none."""
    sample_fraction: float = 1.0
    """Share of those recordings to take, drawn with the seed; a recording's draw depends on its id and nothing else."""
    crop_starts_s: tuple[float, ...] = (0.0,)
    """Starts of the 5 s crops to describe in each recording, s."""
    seed: int = 0
    """Seed of the sample."""
    batch_size: int = 64
    """Crops computed together; on a GPU more of them keep it busier."""
    workers: int = 0
    """Shards worked on at once; 0 takes one per CPU, or one per GPU for `latent` where there are GPUs."""

    def __post_init__(self) -> None:
        latent = self.descriptor == LATENT
        if latent and (self.checkpoint is None or self.layer is None):
            raise ConfigError("--descriptor latent: wanted --checkpoint and --layer too, got neither or one of them")
        if not latent and (self.checkpoint is not None or self.layer is not None or self.precision != "float32"):
            raise ConfigError(
                f"--descriptor {self.descriptor}: --checkpoint, --layer and --precision belong to `latent` only"
            )
        if not 0 < self.sample_fraction <= 1:
            raise ConfigError(f"--sample_fraction: wanted a share in (0, 1], got {self.sample_fraction}")
        if not 0 <= self.start_fraction < self.end_fraction <= 1:
            raise ConfigError(
                f"--start_fraction, --end_fraction: wanted 0 <= start < end <= 1, got {self.start_fraction} and "
                f"{self.end_fraction}"
            )
        check_work(self.batch_size, self.workers)
        check_crop_starts(self.crop_starts_s)


def dump(config: DumpConfig) -> Manifest:
    """Run the stage. Raises InputError when there is not one recording to describe."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    preprocess = preprocess_of(waveforms)
    if config.descriptor == LATENT:
        assert config.checkpoint is not None
        source = LatentSource.open(config.checkpoint)
        feature = describe_latent(source, preprocess, config.layer, config.precision)
    else:
        feature = describe_descriptor(config.descriptor, preprocess)
    described = {
        "descriptor": feature.descriptor,
        "preprocess": preprocess.to_dict(),
        "split": config.split,
        "start_fraction": config.start_fraction,
        "end_fraction": config.end_fraction,
        "sample_fraction": config.sample_fraction,
        "crop_starts_s": list(config.crop_starts_s),
        "seed": config.seed,
    }
    inputs = {"waveforms": waveforms.fingerprint} | feature.inputs
    tasks = span_tasks(waveforms, config)
    output = begin(config.output, verb="dump", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    arguments = {"directory": output.directory, "waveforms": waveforms, "config": config, "feature": feature}
    run_shards(output, tasks, DumpShard, work_arguments=arguments, holds_model=feature.latent, workers=config.workers)
    receipts = output.receipts(waveforms.parts)
    if not sum(receipt["rows"] for receipt in receipts):
        raise InputError(
            f"{waveforms.directory}: wanted at least one recording, got none of split {config.split}: "
            f"{sum(receipt['recordings'] for receipt in receipts)} were drawn, "
            f"{sum(len(receipt['set_aside']) for receipt in receipts)} of them had features that are not finite"
        )
    facts = {"descriptor": feature.descriptor, "dim": feature.dim, "tokens_per_crop": preprocess.num_tokens}
    return output.finish(parts=waveforms.parts, facts=facts | set_aside_facts(receipts))


def span_tasks(waveforms: Manifest, config: DumpConfig) -> list[dict[str, Any]]:
    """One task per shard: which recordings of the split it takes, as numbers within the shard's own of that split.

    Raises ArtifactError when the split has no recording.
    """
    receipts = waveforms.receipts()
    sizes = [r["rows"] if config.split == ALL else r["splits"].get(config.split, 0) for r in receipts]
    total = sum(sizes)
    if not total:
        raise ArtifactError(
            f"{waveforms.directory}: no recording in split {config.split}; splits: {waveforms.facts['splits']}"
        )
    first, stop = int(config.start_fraction * total), int(config.end_fraction * total)
    offsets = np.cumsum([0, *sizes]).tolist()
    return [
        {"part": part, "first": max(0, first - offset), "stop": max(0, min(size, stop - offset))}
        for part, (offset, size) in enumerate(zip(offsets, sizes, strict=False))
    ]


class DumpShard:
    """Computes and writes the features of one shard per call."""

    def __init__(self, directory: str, waveforms: Manifest, config: DumpConfig, feature: Feature) -> None:
        self.directory, self.waveforms, self.config, self.feature = directory, waveforms, config, feature
        self.preprocess = preprocess_of(waveforms)
        self.extractor = Extractor([feature])
        self.schema = tables.feature_schema(self.preprocess.num_tokens * feature.dim)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        batches: list[pa.RecordBatch] = []
        bad: list[str] = []
        taken = 0
        if task["first"] < task["stop"]:  # A shard outside the span is not worth reading.
            shard = WaveformShard.read(self.waveforms, task["part"], self.preprocess)
            rows = self._rows(shard, task)
            taken = len(rows)
            for crops in shard.crops(self.config.crop_starts_s, self.config.batch_size, rows):
                features = self.extractor.compute(crops)[0]
                lost = np.unique(crops.rows[~finite_crops(features)])
                bad += shard.record_ids.take(lost).to_pylist()
                batches.append(self._batch(shard, crops, features, np.isin(crops.rows, lost, invert=True)))
        table = pa.Table.from_batches(batches, schema=self.schema)
        facts = {"recordings": taken, "set_aside": set_aside(bad, self.feature)}
        write_part(self.directory, task["part"], table, **facts, seconds=round(time.monotonic() - start, 3))
        return {"part": task["part"], "rows": taken}

    def _rows(self, shard: WaveformShard, task: dict[str, Any]) -> np.ndarray:
        """Ascending rows of the shard to describe."""
        rows = np.arange(len(shard.counts))
        if self.config.split != ALL:
            rows = np.flatnonzero(np.array(shard.splits.to_pylist(), object) == self.config.split)
        rows = rows[task["first"] : task["stop"]]
        if self.config.sample_fraction == 1:
            return rows
        return rows[drawn(shard.record_ids.take(rows).to_pylist(), self.config.sample_fraction, self.config.seed)]

    def _batch(self, shard: WaveformShard, crops: Crops, features: np.ndarray, kept: np.ndarray) -> pa.RecordBatch:
        mask = None if crops.token_mask is None else crops.token_mask[kept]
        columns = [
            shard.record_ids.take(crops.rows[kept]).combine_chunks(),
            pa.array(crops.starts_s[kept], pa.float32()),
            tables.to_fixed_list_array(features.reshape(len(features), -1)[kept], pa.float32()),
            _mask_column(mask, int(kept.sum())),
        ]
        return pa.record_batch(columns, schema=self.schema)


def drawn(record_ids: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """[recording] bool: which are in the sample, decided by a hash of seed and id, however the table is cut."""
    draws = [
        int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), "big") for name in record_ids
    ]
    return np.array(draws, np.uint64) < np.uint64(fraction * 2**64)


def _mask_column(mask: np.ndarray | None, rows: int) -> pa.Array:
    """[row, token] bool -> list column, null for rows where all tokens count."""
    if mask is None:
        return pa.nulls(rows, pa.list_(pa.bool_()))
    return pa.array([None if row.all() else row for row in mask], pa.list_(pa.bool_()))
