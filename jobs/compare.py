"""`python -m jobs.compare`: see hubert_ecg/pipeline/compare.py."""

from hubert_ecg.pipeline.compare import TABLE, CompareConfig, compare
from hubert_ecg.storage import files
from jobs.cli import run_job


def next_command(c: CompareConfig) -> str:
    return f"cat {files.join(files.absolute(c.output), TABLE)}, or python -m jobs.inspect {c.output}"


if __name__ == "__main__":
    run_job("compare", CompareConfig, compare, next_command)
