"""`python -m jobs.pretrain`: see hubert_ecg/pipeline/pretrain.py."""

from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from jobs.cli import run_job


def next_command(c: PretrainConfig) -> str:
    return (
        f"python -m jobs.finetune --waveforms {c.waveforms} --checkpoint {c.output} --label_set conditions --output M"
    )


if __name__ == "__main__":
    run_job("pretrain", PretrainConfig, pretrain, next_command)
