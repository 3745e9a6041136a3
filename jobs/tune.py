"""`python -m jobs.tune`: see hubert_ecg/pipeline/tune.py."""

from hubert_ecg.pipeline.search_report import BEST_CONFIG
from hubert_ecg.pipeline.search_space import find_space, read_space
from hubert_ecg.pipeline.tune import TuneConfig, tune
from jobs.cli import run_job


def next_command(c: TuneConfig) -> str:
    last = read_space(find_space(c.space)).last
    return f"python -m jobs.{last} --config {c.output}/{BEST_CONFIG} (the table is {c.output}/trials.txt)"


if __name__ == "__main__":
    run_job("tune", TuneConfig, tune, next_command)
