"""A small pre-training that can be disturbed: its inputs, its settings, and what is to be the same in the end."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import SECONDS, descendants

from hubert_ecg.pipeline.pretrain import PretrainConfig
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import open_artifact
from tests.training.padded import write_codes, write_waveforms

ROOT = Path(__file__).resolve().parents[2]
STEPS, VALIDATION_INTERVAL, CHECKPOINT_INTERVAL = 40, 16, 4
WORKER = "ray::RayTrainWorker"


def write_inputs(folder: Path) -> Path:
    """Waveforms and labels of 15 recordings."""
    write_codes(folder / "l", write_waveforms(folder / "w", splits=("train", "val", "test")))
    return folder


def config(inputs: Path, output: Path | str, workers: WorkersConfig, **settings: Any) -> PretrainConfig:
    """All checkpoints are kept, so that they tell which steps were gone through."""
    made = {
        "steps": STEPS,
        "batch_size": 4,
        "validation_interval": VALIDATION_INTERVAL,
        "checkpoint_interval": CHECKPOINT_INTERVAL,
        "keep_checkpoints": 1000,
    }
    places = {"waveforms": f"{inputs}/w", "labels": f"{inputs}/l", "output": str(output)}
    return PretrainConfig(workers=workers, **places, **made | settings)


def command(made: PretrainConfig) -> list[str]:
    """`python -m jobs.pretrain` of the same training."""
    names = ("waveforms", "labels", "output", "steps", "batch_size", "validation_interval")
    flags = {name: getattr(made, name) for name in (*names, "checkpoint_interval", "keep_checkpoints")}
    flags |= {f"workers.{name}": value for name, value in vars(made.workers).items()}
    arguments = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "jobs.pretrain", *arguments]


def result(output: Path | str) -> tuple[str, dict[str, Any], str]:
    """The fingerprint of the best weights, their metrics, and all validations, of a finished training."""
    manifest = open_artifact(str(output))
    history = files.read_bytes(files.join(manifest.directory, "history.csv")).decode()
    return manifest.facts["checkpoint"], manifest.facts["best"], history


def checkpointed(output: Path) -> list[int]:
    """The step of every complete checkpoint, in order; a step that was gone through twice would be there twice."""
    return sorted(int(path.name.split("-")[1]) for path in (output / "trainer" / "run").glob("step-*.json"))


def worker_processes(root: int) -> list[int]:
    """The processes below one that train, oldest first."""
    return sorted(pid for pid, title in descendants(root) if title.startswith(WORKER))


def await_that(true: Callable[[], bool], alive: Callable[[], bool], what: str) -> float:
    """Wait until something is true of a training that is under way; seconds that it took."""
    began = time.monotonic()
    while not true():
        assert alive(), f"the training ended before {what}"
        assert time.monotonic() - began < 2 * SECONDS, what
        time.sleep(0.02)
    return time.monotonic() - began
