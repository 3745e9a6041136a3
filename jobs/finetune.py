"""`python -m jobs.finetune`: see hubert_ecg/pipeline/finetune.py."""

from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from jobs.cli import run_job


def next_command(c: FinetuneConfig) -> str:
    return f"python -m jobs.evaluate --waveforms {c.waveforms} --checkpoint {c.output} --split test --output E"


if __name__ == "__main__":
    run_job("finetune", FinetuneConfig, finetune, next_command)
