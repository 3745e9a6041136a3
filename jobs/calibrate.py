"""`python -m jobs.calibrate`: see hubert_ecg/pipeline/calibrate.py."""

from hubert_ecg.pipeline.calibrate import CalibrateConfig, calibrate
from jobs.cli import run_job


def next_command(c: CalibrateConfig) -> str:
    return f"python -m jobs.evaluate --waveforms {c.waveforms} --checkpoint {c.output} --split test --output EVALUATION"


if __name__ == "__main__":
    run_job("calibrate", CalibrateConfig, calibrate, next_command)
