"""All benchmarks one after another, saved, and one table of what is saved.

    python -m benchmarks.subset --input PTB-XL --output FOLDER
    python -m benchmarks --ptbxl FOLDER       # hours: every script in full, on a machine that does nothing else
    python -m benchmarks --only model serve
    python -m benchmarks --table              # the table of benchmarks/results, nothing is run
    python -m benchmarks --figure docs/results.svg    # the README's picture of them

Every script runs in a process of its own. One that fails is named at the end, and the others run all the same; the exit
code is then 1. Scripts that need PTB-XL, or a GPU, are left out, and named, where there is none. Where a script has
several commands, each of them has a place of its own in the results.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import gpu
from benchmarks.figure import draw, panels
from benchmarks.names import BASELINE
from benchmarks.saved import RESULTS, saved_runs
from benchmarks.table import markdown

PTBXL = "FOLDER"
"""What stands in a command for the place of PTB-XL on a machine."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One run of one script."""

    script: str
    arguments: tuple[str, ...] = ()
    needs_gpu: bool = False

    @property
    def needs_ptbxl(self) -> bool:
        return PTBXL in self.arguments

    def __str__(self) -> str:
        return " ".join(["python", "-m", f"benchmarks.{self.script}", *self.arguments])

    def words(self, ptbxl: str | None, results: str) -> list[str]:
        """To be run by this interpreter."""
        places = [ptbxl if word == PTBXL and ptbxl else word for word in self.arguments]
        return [sys.executable, "-m", f"benchmarks.{self.script}", *places, "--save", results]


def recipe(name: str) -> Command:
    return Command(script="recipe", arguments=(f"jobs/configs/{name}.yaml", "threads=1", "--input", PTBXL))


def label_efficiency(*arguments: str) -> Command:
    return Command(script="label_efficiency", arguments=("--input", PTBXL, *arguments, "--threads", "1"))


def proof(*arguments: str) -> Command:
    return Command(script="proof", arguments=("--input", PTBXL, *arguments, "--threads", "1"))


BEST, HUBERT = "resnet_auxiliary_augment", "hubert_voltage_pretrained_auxiliary_augment_fast"
TRIED = (
    *("resnet", "resnet_slow", "resnet_decay", "resnet_long"),
    *("resnet_auxiliary", "resnet_augment", "resnet_auxiliary_augment", "state_space_auxiliary_augment"),
    *("side_by_side_auxiliary_augment", "hubert_pretrained_auxiliary_augment_fast"),
    *("hubert_voltage_auxiliary_augment", "hubert_voltage_auxiliary_augment_fast", HUBERT),
    *("side_by_side_as_hubert_auxiliary_augment", "side_by_side_as_hubert_auxiliary_augment_fast"),
)
"""Recipes that were compared on the fold that chooses."""
SEEDS = ("--seeds", *"01234")
COMMANDS = (
    *(Command(script=script) for script in ("prepare", "dump", "cluster", "train", "model", "scaling")),
    *(Command(script=script) for script in ("serve", "explain", "coverage")),
    recipe("ptbxl_benchmark"),
    recipe("simulated_to_ptbxl"),
    Command(script="recipe", arguments=("jobs/configs/ptbxl_gpu.yaml", "--input", PTBXL), needs_gpu=True),
    label_efficiency(),
    label_efficiency("--labels", "10", "--steps", "600"),
    Command(script="ablation", arguments=("--input", PTBXL)),
    proof("--recipes", *TRIED, "--seeds", "100"),
    proof("--stage", "judge", "--recipes", BASELINE, BEST, HUBERT, *SEEDS, "--new_seed", "5"),
    proof("--stage", "judge", "--recipes", BASELINE, "state_space_auxiliary_augment", "--seeds", "0"),
    proof("--label_set", "conditions", "--stage", "judge", "--recipes", BASELINE, BEST, *SEEDS),
    proof("--label_set", "conditions", "--stage", "rotate", "--recipes", BEST, "--seeds", "0"),
)
"""What the table holds. benchmarks.capacity and benchmarks.population are none of it: they measure nothing."""


def main(commands: Sequence[Command] = COMMANDS) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = sorted({command.script for command in commands})
    parser.add_argument("--only", nargs="+", choices=names, metavar="SCRIPT", help=f"some of {', '.join(names)}")
    parser.add_argument("--ptbxl", metavar="FOLDER", help="what benchmarks.subset has laid out")
    parser.add_argument("--results", metavar="FOLDER", default=RESULTS, help=f"where results are saved ({RESULTS})")
    parser.add_argument("--list", action="store_true", help="name the commands and run none")
    parser.add_argument("--table", action="store_true", help="print the table and run none")
    parser.add_argument("--figure", metavar="FILE", help="draw what models reach as an SVG and run none")
    options = parser.parse_args()
    if options.figure:
        Path(options.figure).write_bytes(draw(panels(saved_runs(options.results))))
        return 0
    chosen = [command for command in commands if not options.only or command.script in options.only]
    if options.list:
        print("\n".join(map(str, chosen)))
        return 0
    failed = [] if options.table else run_all(chosen, options.ptbxl, options.results)
    print("\n".join(markdown(saved_runs(options.results))))
    for said in failed:
        print(said, file=sys.stderr)
    return 1 if failed else 0


def run_all(commands: Sequence[Command], ptbxl: str | None, results: str) -> list[str]:
    """Run one after another; what is to be said of those that failed or were left out."""
    failed = []
    for number, command in enumerate(commands, start=1):
        print(f"\n[{number}/{len(commands)}] {command}", flush=True)
        if command.needs_ptbxl and not ptbxl:
            failed.append(f"left out, needs --ptbxl: {command}")
            continue
        if command.needs_gpu and not gpu.names():
            failed.append(f"left out, needs a GPU: {command}")
            continue
        code = subprocess.run(command.words(ptbxl, results), check=False).returncode
        if code:
            failed.append(f"failed with exit code {code}: {command}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
