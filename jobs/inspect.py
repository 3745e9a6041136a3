"""`python -m jobs.inspect DIR`: explain any output directory."""

import argparse
import sys

from hubert_ecg.pipeline.commands import guarded
from hubert_ecg.pipeline.inspect import inspect

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m jobs.inspect", description="Explain any output directory.")
    parser.add_argument("directory", help="what a job wrote with --output")
    directory = parser.parse_args().directory
    sys.exit(guarded(lambda: print(inspect(directory))))
