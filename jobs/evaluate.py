"""`python -m jobs.evaluate`: see hubert_ecg/pipeline/evaluate.py."""

from hubert_ecg.pipeline.evaluate import FIGURE, EvaluateConfig, evaluate
from jobs.cli import run_job


def next_command(c: EvaluateConfig) -> str:
    return f"open {c.output}/{FIGURE}, or python -m jobs.inspect {c.output}"


if __name__ == "__main__":
    run_job("evaluate", EvaluateConfig, evaluate, next_command)
