"""`python -m jobs.predict`: see hubert_ecg/pipeline/predict.py."""

import sys

from hubert_ecg.pipeline.predict import PREDICTIONS, PredictConfig, predict
from hubert_ecg.storage import files
from jobs.cli import run_job
from jobs.prepare import spelled_out


def next_command(c: PredictConfig) -> str:
    path = files.join(files.absolute(c.output), PREDICTIONS if c.single_file else "parts")
    return f'python -c "import pandas; print(pandas.read_parquet({path!r}))"'


if __name__ == "__main__":
    sys.argv[1:] = spelled_out(sys.argv[1:], PredictConfig)
    run_job("predict", PredictConfig, predict, next_command)
