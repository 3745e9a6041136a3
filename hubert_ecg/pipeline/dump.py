"""dump: one row of features per token, for all recordings or a seeded sample of them."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.extract import (
    LATENT,
    Extractor,
    Feature,
    check_crop_starts,
    crops_of_shard,
    describe_feature,
    num_tokens,
    preprocess_of,
)
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.training.examples import select_rows

log = logging.getLogger(__name__)


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
    """Pre-trained checkpoint C; for `latent` only."""
    layer: int | None = None
    """Encoder layer whose output is taken, 0-based; for `latent` only."""
    split: Literal["train", "val", "test"] = "train"
    """Recordings to take; the codebook of a fair experiment sees training recordings only."""
    sample_fraction: float = 1.0
    """Share of the recordings to take, drawn with the seed."""
    crop_starts_s: tuple[float, ...] = (0.0,)
    """Starts of the 5 s crops to describe in each recording, s."""
    seed: int = 0
    """Seed of the sample."""
    workers: int = 0
    """Actors for `latent`; 0 takes one per CPU, or one per GPU where there are GPUs."""

    def __post_init__(self) -> None:
        latent = self.descriptor == LATENT
        if latent and (self.checkpoint is None or self.layer is None):
            raise ConfigError("--descriptor latent: wanted --checkpoint and --layer too, got neither or one of them")
        if not latent and (self.checkpoint is not None or self.layer is not None):
            raise ConfigError(f"--descriptor {self.descriptor}: --checkpoint and --layer belong to `latent` only")
        if not 0 < self.sample_fraction <= 1:
            raise ConfigError(f"--sample_fraction: wanted a share in (0, 1], got {self.sample_fraction}")
        check_crop_starts(self.crop_starts_s)


def dump(config: DumpConfig) -> Manifest:
    """Run the stage."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    preprocess = preprocess_of(waveforms)
    feature = describe_feature(config.descriptor, preprocess, config.checkpoint, config.layer)
    described = {
        "descriptor": feature.descriptor,
        "preprocess": preprocess.to_dict(),
        "split": config.split,
        "sample_fraction": config.sample_fraction,
        "crop_starts_s": list(config.crop_starts_s),
        "seed": config.seed,
    }
    inputs = {"waveforms": waveforms.fingerprint} | feature.inputs
    output = begin(config.output, verb="dump", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    selected = select_rows(waveforms, split=config.split)
    if not sum(map(len, selected)):
        raise ArtifactError(
            f"{waveforms.directory}: no recording in split {config.split}; splits: {waveforms.facts['splits']}"
        )
    tasks = [{"part": part, "rows": rows.tolist()} for part, rows in enumerate(selected)]
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "config": config,
        "feature": feature,
    }
    run_extraction(output, tasks, DumpShard, arguments, latent=config.descriptor == LATENT, workers=config.workers)
    facts = {"descriptor": feature.descriptor, "dim": feature.dim, "tokens_per_crop": num_tokens(preprocess)}
    return output.finish(parts=waveforms.parts, facts=facts)


class DumpShard:
    """Computes and writes the features of one shard per call."""

    def __init__(self, directory: str, waveforms: Manifest, config: DumpConfig, feature: Feature) -> None:
        self.directory, self.waveforms, self.config = directory, waveforms, config
        self.preprocess = preprocess_of(waveforms)
        self.extractor = Extractor(feature)
        self.schema = tables.feature_schema(num_tokens(self.preprocess) * feature.dim)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        part = task["part"]
        rows = np.array(task["rows"], np.int64)
        if self.config.sample_fraction < 1:
            drawn = np.random.default_rng([self.config.seed, part]).random(len(rows)) < self.config.sample_fraction
            rows = rows[drawn]
        ids = files.read_table(self.waveforms.part(part), ["record_id"])["record_id"].to_numpy()
        columns: dict[str, list[np.ndarray]] = {"record_id": [], "crop_start_s": [], "features": []}
        for crops in crops_of_shard(self.waveforms, part, self.preprocess, self.config.crop_starts_s, rows):
            features = self.extractor.compute(crops.inputs)
            columns["record_id"].append(ids[crops.rows])
            columns["crop_start_s"].append(crops.starts_s)
            columns["features"].append(features.reshape(len(features), -1))
        table = _to_table(columns, self.schema) if columns["features"] else self.schema.empty_table()
        receipt = write_part(self.directory, part, table, recordings=len(rows))
        return {"part": part, "rows": receipt["rows"]}


def run_extraction(
    output: Any, tasks: list[dict[str, Any]], work: type, arguments: dict[str, Any], *, latent: bool, workers: int
) -> None:
    """Run a shard class on actors: on GPUs where the work is a model's and there are GPUs, on CPUs otherwise."""
    from hubert_ecg.pipeline.ray_cluster import available

    gpus = available("GPU") if latent else 0
    actors = workers or gpus or max(1, available("CPU"))
    run_shards(
        output,
        tasks,
        work,
        actors=min(actors, len(tasks)),
        gpus_per_actor=1.0 if gpus else 0.0,
        work_arguments=arguments,
    )


def _to_table(columns: dict[str, list[np.ndarray]], schema: pa.Schema) -> pa.Table:
    return pa.table(
        [
            pa.array(np.concatenate(columns["record_id"]), pa.string()),
            pa.array(np.concatenate(columns["crop_start_s"]), pa.float32()),
            tables.to_fixed_list_array(np.concatenate(columns["features"]), pa.float32()),
            pa.nulls(len(np.concatenate(columns["record_id"])), pa.list_(pa.bool_())),
        ],
        schema=schema,
    )
