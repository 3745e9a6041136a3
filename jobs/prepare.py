"""`python -m jobs.prepare`: see hubert_ecg/pipeline/prepare.py."""

from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from jobs.cli import run_job


def next_command(c: PrepareConfig) -> str:
    return f"python -m jobs.dump --waveforms {c.output} --descriptor mfcc --output F"


if __name__ == "__main__":
    run_job("prepare", PrepareConfig, prepare, next_command)
