"""What pretrain and finetune set up alike before a training: inputs, rows, plans and readers of the two splits."""

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.checkpoint import load_info
from hubert_ecg.training.auxiliary import AuxiliaryTargets
from hubert_ecg.training.examples import ExampleReader, select_rows
from hubert_ecg.training.loop import LoopConfig
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.targets import CodeTargets, LabelTargets

Rows = tuple[np.ndarray, ...]
"""Row numbers per shard."""


class TrainingConfig(Protocol):
    """The settings that every training has."""

    @property
    def waveforms(self) -> str: ...
    @property
    def checkpoint(self) -> str | None: ...


Config = TypeVar("Config", bound=Any)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a training reads, opened and checked against each other."""

    waveforms: Manifest
    preprocess: PreprocessConfig
    fingerprints: dict[str, str]
    """Of the waveforms, and of the checkpoint to start from where there is one."""

    @classmethod
    def open(cls, config: TrainingConfig) -> Self:
        """Raises ArtifactError or CheckpointError for what is missing, unfinished or does not belong together."""
        waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
        preprocess = preprocess_of(waveforms)
        fingerprints = {"waveforms": waveforms.fingerprint}
        if config.checkpoint is not None:
            parent = load_info(config.checkpoint)
            check_contract(parent.preprocessing, preprocess, config.checkpoint)
            fingerprints["checkpoint"] = parent.fingerprint
        return cls(waveforms=waveforms, preprocess=preprocess, fingerprints=fingerprints)


def with_absolute_checkpoint(config: Config) -> Config:
    """Training workers start in a directory of their own."""
    made: Config = replace(config, checkpoint=files.absolute(config.checkpoint) if config.checkpoint else None)
    return made


def select_splits(waveforms: Manifest, what: str, **criteria: Any) -> dict[str, Rows]:
    """The rows of `train` and `val` that meet the criteria of `select_rows`; ArtifactError where there are none."""
    selected = {split: tuple(select_rows(waveforms, split=split, **criteria)) for split in ("train", "val")}
    counts = count_rows(selected)
    if not all(counts.values()):
        raise ArtifactError(f"{waveforms.directory}: wanted {what} in splits train and val, got {counts}")
    return selected


def count_rows(selected: dict[str, Rows]) -> dict[str, int]:
    return {split: sum(map(len, rows)) for split, rows in selected.items()}


def job_fields(
    config: Any,
    inputs: Inputs,
    selected: dict[str, Rows],
    targets: CodeTargets | LabelTargets,
    *,
    learnt: AuxiliaryTargets | None = None,
    seen: Rows | None = None,
    shuffled_among: Rows | None = None,
) -> dict[str, Any]:
    """The fields of a TrainingJob that follow from settings, inputs and rows.

    `learnt`: what training learns, where that is more than the `targets` that a validation judges; `seen`: the rows of
    an epoch, where some training rows come up more often than once; `shuffled_among`: the reader's.
    """
    if config.augment.rotation_deg and not inputs.preprocess.range_mv:
        raise ConfigError(
            f"--augment.rotation_deg: wanted waveforms that have kept their voltage, got {inputs.waveforms.directory}, "
            f"whose leads are scaled one by one; run jobs.prepare with --range_mv, or leave it out"
        )
    reader = ExampleReader(waveforms=inputs.waveforms, preprocess=inputs.preprocess, targets=targets, seed=config.seed)
    training_reader = replace(
        reader,
        targets=targets if learnt is None else learnt,
        shuffled_among=shuffled_among,
        fixed_crop=not config.random_crop,
        augment=config.augment if config.augment.changes_anything else None,
        mixed_among=selected["train"] if getattr(config.augment, "mixup", 0) else None,
    )
    plan = StepPlan(
        selected=selected["train"] if seen is None else seen,
        batch_size=config.batch_size,
        world_size=1,
        seed=config.seed,
    )
    return {
        "config": config,
        "preprocess": inputs.preprocess,
        "loop": LoopConfig(
            steps=num_steps(config, plan.num_rows),
            validation_interval=config.validation_interval,
            patience=config.patience,
            seed=config.seed,
            checkpoint_interval=config.checkpoint_interval,
            accumulation_steps=config.accumulation_steps,
        ),
        "keep_checkpoints": config.keep_checkpoints,
        "trackers": config.trackers,
        "run_name": config.run_name,
        "optimiser": config.optimiser,
        "regulariser": config.regulariser,
        "workers": config.workers,
        "compute": config.compute,
        "plan": plan,
        "reader": training_reader,
        "validation_plan": one_pass(selected["val"], config.batch_size),
        "validation_reader": replace(reader, fixed_crop=True),
    }


def one_pass(selected: Rows, batch_size: int) -> StepPlan:
    """The plan of a validation: every selected row once, always in the same order."""
    return StepPlan(selected=selected, batch_size=batch_size, world_size=1, seed=0, endless=False)


def check_training(config: Any) -> None:
    """ConfigError for settings, common to all trainings, that make no training or contradict each other."""
    if config.steps is not None and config.epochs is not None:
        raise ConfigError(f"wanted --steps or --epochs, got both: {config.steps} and {config.epochs}; leave one out")
    lengths = (config.steps, config.epochs, config.batch_size, config.validation_interval)
    if min(length for length in lengths if length is not None) <= 0 or config.patience < 0:
        raise ConfigError(
            f"wanted --steps, --epochs, --batch_size and --validation_interval above 0 and --patience of at least 0, "
            f"got {', '.join(map(str, lengths))} and {config.patience}"
        )
    share = config.batch_size // config.workers.num
    if not 1 <= config.accumulation_steps <= max(1, share):
        raise ConfigError(
            f"--accumulation_steps: wanted 1 to {share}, the recordings of a step that --batch_size "
            f"{config.batch_size} leaves each of --workers.num {config.workers.num}, got {config.accumulation_steps}"
        )
    config.regulariser.check(config.patience)


def num_steps(config: Any, num_rows: int) -> int:
    """Steps of a training: as set, or what it takes to see each of `num_rows` rows as often as there are epochs."""
    if config.epochs is not None:
        return math.ceil(num_rows * config.epochs / config.batch_size)
    return int(config.steps or config.default_steps)


def check_checkpoints(interval: int, keep: int) -> None:
    """ConfigError for numbers of checkpoints that cannot be."""
    if interval < 0 or keep < 1:
        raise ConfigError(
            f"wanted --checkpoint_interval of at least 0 and --keep_checkpoints of at least 1, got {interval} and "
            f"{keep}"
        )


def describe(config: Any) -> dict[str, Any]:
    """The settings of a training that shape its result: not places (inputs have fingerprints) and not resources.

    As a manifest holds them, so that they compare with those of one: lists, no tuples.
    """
    places = {"output", "waveforms", "labels", "checkpoint", "resume", "trackers", "run_name"}
    left_out = places | {"workers", "checkpoint_interval", "keep_checkpoints"}
    kept = {name: value for name, value in asdict(config).items() if name not in left_out}
    described: dict[str, Any] = json.loads(json.dumps(kept))
    return described
