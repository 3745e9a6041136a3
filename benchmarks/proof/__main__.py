"""Run trials, and print and write the comparison of all that are finished; see benchmarks/proof/__init__.py."""

import argparse
import sys
from pathlib import Path

import torch

import benchmarks.proof
from benchmarks.proof.comparison import compare, rows
from benchmarks.proof.recipes import RECIPES
from benchmarks.proof.recordings import Recordings
from benchmarks.proof.trials import JUDGED_FOLD, Trial, run
from benchmarks.report import Report, reporting
from hubert_ecg.pipeline.commands import guarded, set_up_logging


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.proof.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waveforms", metavar="W", required=True, help="output of jobs.prepare --source ptbxl, 100 Hz")
    parser.add_argument("--output", default="runs/proof", help="folder for the results of every trial")
    parser.add_argument("--label_set", default="superclass", choices=["superclass", "conditions"])
    parser.add_argument("--stage", default="choose", choices=list(JUDGED_FOLD), help="judged on fold 8, or on fold 9")
    parser.add_argument("--recipes", nargs="+", required=True, choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="none: compare what is finished")
    parser.add_argument(
        "--checkpoint", metavar="C", help="output of jobs.pretrain on folds 1 to 7, for recipes that start from one"
    )
    parser.add_argument("--threads", type=int, default=2)
    with reporting("proof", parser) as (options, report):
        report.head(f"{options.threads} threads")
        measure(options, report)


def measure(options: argparse.Namespace, report: Report) -> None:
    """All trials that are not finished, and the comparison; what stands behind the rows goes into the details."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # What has faded away in a long kernel would otherwise take ten times as long.
    recordings = Recordings.read(options.waveforms)
    output = Path(options.output)
    for seed in options.seeds:
        for name in options.recipes:
            run(
                Trial(name=name, recipe=RECIPES[name], label_set=options.label_set, stage=options.stage, seed=seed),
                recordings,
                output,
                options.checkpoint,
            )
    found = compare(recordings, output, options.label_set, options.stage, options.recipes)
    for row in rows(options.label_set, options.stage, found):
        report.add(row)
    report.details = {"waveforms": recordings.fingerprint, "trials": found}


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
