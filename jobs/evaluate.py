"""`python -m jobs.evaluate`: see hubert_ecg/pipeline/evaluate.py."""

from hubert_ecg.pipeline.evaluate import FIGURE, EvaluateConfig, evaluate
from hubert_ecg.storage import files
from jobs.cli import run_job


def next_command(c: EvaluateConfig) -> str:
    figure = files.join(files.absolute(c.output), FIGURE)
    inspect = f"python -m jobs.inspect {c.output}"
    # Numbers, unlike labels, have no curves to show.
    return f"open {figure}, or {inspect}" if files.exists(figure) else inspect


if __name__ == "__main__":
    run_job("evaluate", EvaluateConfig, evaluate, next_command)
