"""A small pre-training that can be disturbed: its inputs, its command line, and what is to be the same in the end."""

import sys
from pathlib import Path
from typing import Any

from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact
from tests.training.padded import write_codes, write_waveforms

ROOT = Path(__file__).resolve().parents[2]


def write_inputs(folder: Path) -> None:
    """Waveforms and labels of 15 recordings."""
    waveforms = write_waveforms(folder / "w", splits=("train", "val", "test"))
    write_codes(folder / "l", waveforms)


def command(inputs: Path | str, output: Path | str, **settings: Any) -> list[str]:
    """`python -m jobs.pretrain` on these inputs; dots of settings are written as two underscores."""
    flags = {"steps": 60, "batch_size": 4, "validation_interval": 20, "workers__threads_each": 1} | settings
    arguments = [text for name, value in flags.items() for text in (f"--{name.replace('__', '.')}", str(value))]
    places = ["--waveforms", f"{inputs}/w", "--labels", f"{inputs}/l", "--output", str(output)]
    return [sys.executable, "-m", "jobs.pretrain", *places, *arguments]


def result(output: Path | str) -> tuple[str, dict[str, Any], str]:
    """The fingerprint of the weights, the best validation's metrics, and all validations, of a finished training."""
    manifest: Manifest = open_artifact(str(output))
    history = files.read_bytes(files.join(manifest.directory, "history.csv")).decode()
    return manifest.facts["checkpoint"], manifest.facts["best"], history
