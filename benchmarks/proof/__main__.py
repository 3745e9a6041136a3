"""Run trials, and print and write the comparison of all that are finished; see benchmarks/proof/__init__.py."""

import argparse
import sys
from pathlib import Path

import torch

import benchmarks.proof
from benchmarks.pretraining import Pretraining
from benchmarks.proof.comparison import compare, rows
from benchmarks.proof.recipes import RECIPES, Recipe
from benchmarks.proof.recordings import LARGEST_MV, Recordings
from benchmarks.proof.rotation import TURNS, put_together, rotation_rows
from benchmarks.proof.trials import Stage, Trial, run
from benchmarks.report import Report, reporting
from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.commands import guarded, set_up_logging

STAGES: dict[str, tuple[Stage, ...]] = {"choose": ("choose",), "judge": ("judge",), "rotate": TURNS}
"""What can be asked for -> the stages of its trials."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.proof.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", metavar="FOLDER", required=True, help="what benchmarks.subset has laid out")
    parser.add_argument("--output", default="runs/proof", help="folder for the waveforms and the results of all trials")
    parser.add_argument("--label_set", default="superclass", choices=["superclass", "conditions"])
    parser.add_argument("--stage", default="choose", choices=[*STAGES], help="judged on fold 8, on fold 9, or on all")
    parser.add_argument("--recipes", nargs="+", required=True, choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="none: compare what is finished")
    parser.add_argument("--new_seed", type=int, help="one more seed, told beside the mean and spread of the others")
    parser.add_argument("--threads", type=int, default=2)
    with reporting("proof", parser) as (options, report):
        check(options)
        report.head(f"{options.threads} threads")
        measure(options, report)


def check(options: argparse.Namespace) -> None:
    """Raises ConfigError for arguments that contradict one another."""
    if options.new_seed in options.seeds:
        raise ConfigError(f"--new_seed: wanted a seed that is not among --seeds, got {options.new_seed}")
    if options.stage != "rotate":
        return
    if len(options.seeds) != 1 or options.new_seed is not None:
        raise ConfigError(f"--stage rotate: wanted one of --seeds and no --new_seed, got {options.seeds}")
    if pretrained := [name for name in options.recipes if RECIPES[name].pretrained]:
        raise ConfigError(
            f"--stage rotate: wanted recipes that start from random weights, got {pretrained[0]}: "
            "its pre-training has seen folds that it would be judged on"
        )


def measure(options: argparse.Namespace, report: Report) -> None:
    """All trials that are not finished, and the comparison; what stands behind the rows goes into the details."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # What has faded away in a long kernel would otherwise take ten times as long.
    output = Path(options.output)
    recordings = Recordings.prepared(options.input, str(output / "waveforms"))
    pretrainings = {name: pretraining_of(RECIPES[name], output, options) for name in options.recipes}
    new = [] if options.new_seed is None else [options.new_seed]
    for seed in (*options.seeds, *new):
        for name in options.recipes:
            for stage in STAGES[options.stage]:
                run(
                    Trial(name=name, recipe=RECIPES[name], label_set=options.label_set, stage=stage, seed=seed),
                    recordings,
                    output,
                    pretrainings[name],
                )
    report.details = {"recordings": recordings.fingerprint}
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


def pretraining_of(recipe: Recipe, output: Path, options: argparse.Namespace) -> Pretraining | None:
    """On leads as the recipe reads them; None for a recipe that starts from random weights."""
    if not recipe.pretrained:
        return None
    root, range_mv = ("pretraining", 0.0) if recipe.scaled else ("pretraining_mv", LARGEST_MV)
    return Pretraining(input=options.input, root=output / root, threads=options.threads, range_mv=range_mv)


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
