"""`python -m jobs.recipe FILE name=value ...`: run the stages of a recipe in order, each as its own command would run.

A recipe is a YAML file with `variables` (defaults; `name=value` on the command line replaces them) and `stages`, a
list of one verb each with its flags. Finished stages are skipped, so a recipe that was killed goes on where it was.

A variable may be a list (`seeds: [0, 1]`; `seeds=0,1` on the command line). Stages under `each` come once for every
value, for all combinations where there are several lists, and not at all for an empty one:

    - each: {seed: seeds}
      stages:
        - finetune: {seed: "${seed}", output: "${out}/seed${seed}"}
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError, InputError
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.storage.artifact import open_artifact
from jobs.cli import parse, print_estimate

Stage = tuple[str, list[str]]
"""A verb and its arguments."""
Value = str | list[str]
"""Of a variable."""


def read_recipe(path: Path, replaced: dict[str, str]) -> list[Stage]:
    """The stages of a recipe, variables filled in. Raises ConfigError for a file or variable that is not one."""
    try:
        content = yaml.safe_load(path.read_text())
        variables, stages = content.get("variables", {}), content["stages"]
    except (OSError, yaml.YAMLError, AttributeError, KeyError) as error:
        raise ConfigError(f"{path}: wanted a recipe with `stages`, got {type(error).__name__} {error}") from error
    unknown = sorted(set(replaced) - set(variables))
    if unknown:
        raise ConfigError(f"{path}: has no variable {', '.join(unknown)}; its variables are {', '.join(variables)}")
    values = {name: _value(variables[name], replaced.get(name, variables[name])) for name in variables}
    missing = [name for name, value in values.items() if value == ""]
    if missing:
        raise ConfigError(f"{path}: wanted a value for {', '.join(missing)}; add {missing[0]}=... to the command")
    try:
        return list(_expanded(stages, values))
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: wanted stages of one verb with its flags, or `each` (names and the lists of their values) with "
            f"`stages`, got {type(error).__name__} {error}"
        ) from error


def variables_of(pairs: Iterable[str]) -> dict[str, str]:
    """What `name=value ...` says. Raises ConfigError for a word that is no such pair."""
    unclear = [pair for pair in pairs if "=" not in pair]
    if unclear:
        raise ConfigError(f"wanted name=value, got {unclear[0]}")
    return dict(pair.split("=", 1) for pair in pairs)


def _value(default: Any, value: Any) -> Value:
    """A variable as text; where its default is a list, as a list of texts."""
    if not isinstance(default, list):
        return str(value)
    parts = value.split(",") if isinstance(value, str) else value
    return [str(part) for part in parts if part != ""]


def _expanded(stages: list[dict[str, Any]], values: dict[str, Value]) -> Iterator[Stage]:
    """Stages with their variables filled in, those under `each` once per combination."""
    for stage in stages:
        if "each" in stage:
            names, lists = stage["each"].keys(), [_list(values, name) for name in stage["each"].values()]
            for combination in product(*lists):
                yield from _expanded(stage["stages"], values | dict(zip(names, combination, strict=True)))
        else:
            for verb, flags in stage.items():
                yield verb, [word for key, value in flags.items() for word in (f"--{key}", _text(value, values))]


def _list(values: dict[str, Value], given: str | list[Any]) -> list[str]:
    """The values of a list that is given by the name of its variable, or as it is."""
    found = values[given] if isinstance(given, str) else [str(part) for part in given]
    if isinstance(found, str):
        raise TypeError(f"in `each`, where {given} is no list")
    return found


def run_stages(stages: list[Stage], around: Callable[[Stage], AbstractContextManager[object]] = nullcontext) -> None:
    """Check the flags of all stages, then run stage by stage, each within `around`, showing its command and time."""
    ready = [(verb, arguments, *_stage(verb, arguments)) for verb, arguments in stages]
    for number, (verb, arguments, stage, config) in enumerate(ready, start=1):
        print(f"\n[{number}/{len(ready)}] python -m jobs.{verb} {shlex.join(arguments)}", flush=True)
        since = time.monotonic()
        with around((verb, arguments)):
            stage(config)
        print(f"      {time.monotonic() - since:.0f} s", flush=True)
        if verb == "prepare":
            check_wanted(config.output, [(later, settings) for later, _, _, settings in ready[number:]])


def check_wanted(waveforms: str, later: Iterable[tuple[str, Any]]) -> None:
    """Raises InputError for a stage to come that wants a split or a tag which no recording of `prepare` has: it would
    find out only after the trainings before it."""
    facts = open_artifact(waveforms, verb="prepare").facts
    for verb, config in later:
        if getattr(config, "waveforms", None) != waveforms:
            continue
        for kind, found in (("split", facts["splits"]), ("tag", facts["tags"])):
            wanted = getattr(config, kind, None)
            if wanted in (None, "all") or found.get(wanted):
                continue
            raise InputError(
                f"{waveforms}: wanted recordings with {kind} {wanted} for a later stage, {verb}, got none ({kind}s: "
                f"{found}); give the recipe another {kind} and another output"
            )


def print_estimates(stages: list[Stage]) -> None:
    """Check the flags of all stages and say what each would take, as far as its inputs are there."""
    from hubert_ecg.pipeline.room import room_of_job

    room = room_of_job()
    for number, (verb, arguments) in enumerate(stages, start=1):
        config = _stage(verb, arguments)[1]
        print(f"\n[{number}/{len(stages)}] python -m jobs.{verb} {shlex.join(arguments)}")
        try:
            print_estimate(verb, config, room)
        except (ArtifactError, CheckpointError) as error:
            print(f"{verb}: not known before the stages above have run ({error})")


def _stage(verb: str, arguments: list[str]) -> tuple[Callable[[Any], Any], Any]:
    """The function of a stage and its parsed settings."""
    module = import_module(f"hubert_ecg.pipeline.{verb}")
    return getattr(module, verb), parse(verb, getattr(module, f"{verb.capitalize()}Config"), arguments)


def _text(value: Any, variables: dict[str, Value]) -> str:
    if isinstance(value, str):
        for name, text in variables.items():
            value = value.replace(f"${{{name}}}", text if isinstance(text, str) else json.dumps(text))
        return value
    return json.dumps(value)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jobs.recipe", description="Run the stages of a recipe in order.")
    parser.add_argument("recipe", type=Path, help="a YAML file of jobs/configs")
    parser.add_argument("variables", nargs="*", metavar="name=value", help="values of the recipe's variables")
    parser.add_argument("--dry_run", action="store_true", help="say what each stage would take; start nothing")
    arguments = parser.parse_args()
    stages = read_recipe(arguments.recipe, variables_of(arguments.variables))
    (print_estimates if arguments.dry_run else run_stages)(stages)


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(_main))
