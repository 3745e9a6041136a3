"""`python -m jobs.label`: see hubert_ecg/pipeline/label.py."""

from hubert_ecg.pipeline.label import LabelConfig, label
from jobs.cli import run_job


def next_command(c: LabelConfig) -> str:
    return f"python -m jobs.pretrain --waveforms {c.waveforms} --labels {c.output} --output C"


if __name__ == "__main__":
    run_job("label", LabelConfig, label, next_command)
