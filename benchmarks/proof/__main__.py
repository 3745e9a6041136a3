"""Run trials, and print and write the comparison of all that are finished; see benchmarks/proof/__init__.py."""

import argparse
import json
import sys
from pathlib import Path

import torch

import benchmarks.proof
from benchmarks.proof.comparison import compare, lines
from benchmarks.proof.recipes import RECIPES
from benchmarks.proof.recordings import Recordings
from benchmarks.proof.trials import JUDGED_FOLD, Trial, run
from benchmarks.report import machine
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.storage.artifact import code_version


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.proof.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waveforms", required=True, help="output of jobs.prepare --source ptbxl, 100 Hz")
    parser.add_argument("--output", required=True, help="folder for the results of every trial")
    parser.add_argument("--label_set", default="superclass", choices=["superclass", "conditions"])
    parser.add_argument("--stage", default="choose", choices=list(JUDGED_FOLD), help="judged on fold 8, or on fold 9")
    parser.add_argument("--recipes", nargs="+", required=True, choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="none: compare what is finished")
    parser.add_argument("--checkpoint", help="output of jobs.pretrain on folds 1 to 7, for recipes that start from one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", help="file for the figures; none: they are printed only")
    options = parser.parse_args()
    print(machine(), flush=True)
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
    print("\n".join(lines(found)), flush=True)
    if options.results:
        about = {"machine": machine(), "threads": options.threads, "code": code_version()}
        about |= {"label_set": options.label_set, "stage": options.stage, "waveforms": recordings.fingerprint}
        Path(options.results).write_text(json.dumps(about | {"results": found}, indent=1) + "\n")


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
