"""What a recipe reaches: run it, and take the figures of every training, evaluation and comparison in it.

    python -m benchmarks.recipe jobs/configs/ptbxl_superclass.yaml threads=1 --input FOLDER
    python -m benchmarks.recipe jobs/configs/ptbxl_gpu.yaml --input FOLDER

Rows are named after the directories of the recipe. Intervals are over patients, as jobs.evaluate and jobs.compare give
them. A training's speed is the median over its own table, which leaves out validations and checkpoints. On a GPU there
are also the most memory that tensors took, the model FLOP utilisation as in benchmarks/model.py, and the share of the
time in which the GPU was busy, validations and checkpoints counted in, which is known only of a training that ran now.
Finished stages are not run again.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.gpu import busy_percent, watched
from benchmarks.model import utilisation
from benchmarks.report import Row, reporting
from benchmarks.timing import ROWS_TO_WARM_UP
from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.pipeline.compare import COMPARISON
from hubert_ecg.pipeline.curves import step_rows
from hubert_ecg.pipeline.evaluate import METRICS
from hubert_ecg.storage import files
from hubert_ecg.storage.checkpoint import load_checkpoint
from jobs.recipe import Stage, read_recipe, run_stages, variables_of

UNIT = "macro AUROC"
TRAININGS = ("pretrain", "finetune")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file of jobs/configs")
    parser.add_argument("variables", nargs="*", help="values of the recipe's variables, name=value")
    parser.add_argument("--input", metavar="FOLDER", help="the recipe's variable `input`")
    parser.add_argument("--output", metavar="FOLDER", help="its variable `out`")
    with reporting("recipe", parser) as (options, report):
        report.head()
        stages = read_recipe(Path(options.recipe), given(options))
        busy: dict[str, float] = {}

        @contextmanager
        def kept(stage: Stage) -> Iterator[None]:
            with watched() as readings:
                yield
            share = busy_percent(readings)
            if share is not None:
                busy[output_of(stage[1])] = share

        run_stages(stages, around=kept)
        for row in rows(stages, busy):
            report.add(row)


def given(options: argparse.Namespace) -> dict[str, str]:
    """Values of variables. Raises ConfigError for a place on this machine that would be saved with the command."""
    variables = variables_of(options.variables)
    places = {name: value for name, value in (("input", options.input), ("out", options.output)) if value}
    if {"input", "out"} & set(variables):
        raise ConfigError("wanted --input and --output for the recipe's variables input and out, got name=value")
    return variables | places


def rows(stages: list[Stage], busy: dict[str, float]) -> Iterator[Row]:
    """Of all trainings, evaluations and comparisons, which have run; `busy`: output of a stage -> percent."""
    outputs = [output_of(arguments) for _, arguments in stages]
    for (verb, _), output in zip(stages, outputs, strict=True):
        name = named(output, outputs)
        if verb in TRAININGS:
            yield training_row(name, output, busy.get(output))
        elif verb == "evaluate":
            yield from evaluation_rows(name, files.read_json(files.join(output, METRICS)))
        elif verb == "compare":
            yield comparison_row(name, files.read_json(files.join(output, COMPARISON)))


def output_of(arguments: list[str]) -> str:
    return files.absolute(arguments[arguments.index("--output") + 1])


def named(output: str, outputs: list[str]) -> str:
    """The folders below the one that all outputs share, as parts of a name."""
    shared = len(_common(outputs))
    return ", ".join(part.replace("_", " ") for part in PurePosixPath(output).parts[shared:])


def _common(outputs: list[str]) -> list[str]:
    """The first parts that all have, short of the last part of any."""
    common = []
    for parts in zip(*(PurePosixPath(output).parts[:-1] for output in outputs), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return common


def training_row(name: str, output: str, busy: float | None) -> Row:
    """Its speed; the model is the one it has written."""
    table = step_rows(output)
    table = table[ROWS_TO_WARM_UP:] or table
    speed, waiting = (statistics.median(row[column] for row in table) for column in ("ecgs_per_s", "waiting_share"))
    facts = {"waiting for data, %": 100 * waiting}
    if all("gpu_memory_gb" in row for row in table):
        model, info = load_checkpoint(output)
        preprocess = PreprocessConfig.from_dict(info.preprocessing)
        used = utilisation(name, model.config, speed, num_samples=len(STANDARD_LEADS) * preprocess.crop_samples)
        facts |= {"GPU memory, GB": max(row["gpu_memory_gb"] for row in table)}
        facts |= used.facts | {f"model FLOP utilisation, {used.unit}": used.ours[0]}
        facts |= {} if busy is None else {"GPU busy, %": busy}
    return Row(name=f"{name}, training", ours=(speed,), unit="ECGs/s", more_is_better=True, facts=facts)


def evaluation_rows(name: str, metrics: dict[str, Any]) -> Iterator[Row]:
    """The macro average with its interval, and every label that can be judged."""
    macro = metrics["auroc_intervals"]["macro"]
    counts = {"recordings": metrics["recordings"]}
    if macro["estimate"] is not None:
        yield Row(name=name, ours=(macro["estimate"],), unit=UNIT, interval=_interval(macro), facts=counts)
    for label, found in metrics["auroc_intervals"]["per_label"].items():
        if found["estimate"] is not None:
            facts = counts | {"positives": metrics["per_label"][label]["positives"]}
            each = (found["estimate"],)
            yield Row(name=f"{name}, {label}", ours=each, unit="AUROC", interval=_interval(found), facts=facts)


def comparison_row(name: str, comparison: dict[str, Any]) -> Row:
    macro = comparison["differences"]["auroc"]["macro"]
    return Row(
        name=name,
        ours=(macro["difference"],),
        unit=f"{UNIT}, gain",
        interval=_interval(macro),
        facts={"recordings": comparison["recordings"], "p": macro["p_value"]},
    )


def _interval(found: dict[str, Any]) -> tuple[float, float] | None:
    return None if found["lower"] is None or found["upper"] is None else (found["lower"], found["upper"])


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
