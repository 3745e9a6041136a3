"""`python -m jobs.explain`: see hubert_ecg/pipeline/explain.py."""

from hubert_ecg.pipeline.explain import FIGURES, ExplainConfig, explain
from hubert_ecg.storage import files
from jobs.cli import run_job


def next_command(c: ExplainConfig) -> str:
    return f"open the pictures in {files.join(files.absolute(c.output), FIGURES)} with a browser"


if __name__ == "__main__":
    run_job("explain", ExplainConfig, explain, next_command)
