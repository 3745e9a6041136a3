"""`python -m jobs.evaluate`: see hubert_ecg/pipeline/evaluate.py."""

from hubert_ecg.pipeline.evaluate import PAGE, EvaluateConfig, evaluate
from hubert_ecg.storage import files
from jobs.cli import run_job


def next_command(c: EvaluateConfig) -> str:
    return f"open {files.join(files.absolute(c.output), PAGE)}, or python -m jobs.inspect {c.output}"


if __name__ == "__main__":
    run_job("evaluate", EvaluateConfig, evaluate, next_command)
