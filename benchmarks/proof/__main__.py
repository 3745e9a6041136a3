"""Run trials, and print and write the comparison of all that are finished; see benchmarks/proof/__init__.py."""

import argparse
import sys
from pathlib import Path

import torch

import benchmarks.proof
from benchmarks.label_efficiency import Experiment, pretrain_twice
from benchmarks.proof.comparison import compare, rows
from benchmarks.proof.recipes import RECIPES, Recipe
from benchmarks.proof.recordings import LARGEST_MV, Recordings
from benchmarks.proof.rotation import TURNS, put_together, rotation_rows
from benchmarks.proof.trials import Stage, Trial, run
from benchmarks.report import Report, reporting
from hubert_ecg.pipeline.commands import guarded, set_up_logging

STAGES: dict[str, tuple[Stage, ...]] = {"choose": ("choose",), "judge": ("judge",), "rotate": TURNS}
"""What can be asked for -> the stages of its trials."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.proof.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", metavar="FOLDER", required=True, help="PTB-XL in its official layout, 100 Hz")
    parser.add_argument("--output", default="runs/proof", help="folder for the waveforms and the results of all trials")
    parser.add_argument("--label_set", default="superclass", choices=["superclass", "conditions"])
    parser.add_argument("--stage", default="choose", choices=[*STAGES], help="judged on fold 8, on fold 9, or on all")
    parser.add_argument("--recipes", nargs="+", required=True, choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="none: compare what is finished")
    parser.add_argument("--new_seed", type=int, help="one more seed, told beside the mean and spread of the others")
    parser.add_argument("--threads", type=int, default=2)
    with reporting("proof", parser) as (options, report):
        report.head(f"{options.threads} threads")
        measure(options, report)


def measure(options: argparse.Namespace, report: Report) -> None:
    """All trials that are not finished, and the comparison; what stands behind the rows goes into the details."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # What has faded away in a long kernel would otherwise take ten times as long.
    output = Path(options.output)
    recordings = Recordings.prepared(options.input, str(output / "waveforms"))
    checkpoints = {name: checkpoint_of(RECIPES[name], output, options) for name in options.recipes}
    new = [] if options.new_seed is None else [options.new_seed]
    for seed in (*options.seeds, *new):
        for name in options.recipes:
            for stage in STAGES[options.stage]:
                run(
                    Trial(name=name, recipe=RECIPES[name], label_set=options.label_set, stage=stage, seed=seed),
                    recordings,
                    output,
                    checkpoints[name],
                )
    report.details = {"waveforms": recordings.fingerprint}
    if options.stage == "rotate":
        for name in options.recipes:
            turns = put_together(recordings, output, options.label_set, name, options.seeds[0])
            for row in rotation_rows(options.label_set, name, turns):
                report.add(row)
            report.details[name] = turns
        return
    found = compare(
        recordings, output, options.label_set, options.stage, options.recipes, options.seeds, options.new_seed
    )
    for row in rows(options.label_set, options.stage, found):
        report.add(row)
    report.details["trials"] = found


def checkpoint_of(recipe: Recipe, output: Path, options: argparse.Namespace) -> str | None:
    """Of the second pre-training, on leads as the recipe reads them, made where it is not there yet; or None."""
    if not recipe.pretrained:
        return None
    root = output / ("pretraining" if recipe.scaled else "pretraining_mv")
    range_mv = 0.0 if recipe.scaled else LARGEST_MV
    pretrain_twice(options.input, Experiment(root=root, threads=options.threads), range_mv)
    return str(root / "pretrained2")


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
