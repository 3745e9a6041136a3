"""`python -m jobs.dump`: see hubert_ecg/pipeline/dump.py."""

from hubert_ecg.pipeline.dump import DumpConfig, dump
from jobs.cli import run_job


def next_command(c: DumpConfig) -> str:
    return f"python -m jobs.cluster --features {c.output} --num_clusters '[100]' --output K"


if __name__ == "__main__":
    run_job("dump", DumpConfig, dump, next_command)
