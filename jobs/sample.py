"""`python -m jobs.sample --output DIR`: sample ECGs as .npy files, 500 Hz, in mV, one per condition and a batch."""

import io
import logging
import sys
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.storage import files
from jobs.cli import parse_run, print_estimate

log = logging.getLogger(__name__)

BATCH = CONDITIONS[:5]


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Write simulated 12-lead ECGs of 10 s at 500 Hz, float32 in mV: single_ecg.npy (12, 5000), batch_ecg.npy
    (5, 12, 5000), and one file (12, 5000) per condition."""

    output: str
    """Directory to write the files to; files of these names are overwritten."""
    seed: int = 0
    """Seed of the simulator; the same seed gives the same ECGs."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"--seed: wanted at least 0, got {self.seed}")


def write_samples(config: SampleConfig) -> dict[str, tuple[int, ...]]:
    """Write all files and return the shape of each by its path."""
    target = files.absolute(config.output)
    ecgs = {
        name: simulate_condition([name], seed=config.seed + place)[0].samples for place, name in enumerate(CONDITIONS)
    }
    arrays = {"single_ecg": ecgs["NORM"], "batch_ecg": np.stack([ecgs[name] for name in BATCH])}
    arrays |= {f"{name.lower()}_ecg": samples for name, samples in ecgs.items()}
    shapes = {}
    for name, array in arrays.items():
        path, content = files.join(target, f"{name}.npy"), io.BytesIO()
        np.save(content, array.astype(np.float32), allow_pickle=False)
        files.write_bytes(path, content.getvalue())
        shapes[path] = array.shape
    return shapes


def _main() -> None:
    config, dry_run = parse_run("sample", SampleConfig)
    if dry_run:
        print_estimate("sample", config)
        return
    for path, shape in write_samples(config).items():
        print(f"{path}  {shape}")


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(_main))
