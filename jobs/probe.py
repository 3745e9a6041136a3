"""`python -m jobs.probe`: see hubert_ecg/pipeline/probe.py."""

from hubert_ecg.pipeline.probe import FIGURE, ProbeConfig, probe
from hubert_ecg.storage import files
from jobs.cli import run_job


def next_command(c: ProbeConfig) -> str:
    return f"open {files.join(files.absolute(c.output), FIGURE)}, and the pictures in layers/"


if __name__ == "__main__":
    run_job("probe", ProbeConfig, probe, next_command)
