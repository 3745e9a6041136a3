"""The command line of every job: settings from flags and YAML, one-line errors, exit codes, and the next command."""

import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.pipeline.search_settings import nearest
from hubert_ecg.storage.artifact import Manifest

if TYPE_CHECKING:
    from hubert_ecg.pipeline.room import Room

# --help shows the docstring under each field of a settings dataclass.
set_parsing_settings(docstring_parse_attribute_docstrings=True)


def parse(verb: str, config_class: type, arguments: list[str] | None = None) -> Any:
    """The settings of a job as its dataclass. Raises ConfigError when a flag is unknown, missing or impossible."""
    return parse_run(verb, config_class, arguments)[0]


def parse_run(verb: str, config_class: type, arguments: list[str] | None = None) -> tuple[Any, bool]:
    """The settings of a job, and whether only what it would take is asked for (--dry_run). Raises ConfigError."""
    parser = ArgumentParser(prog=f"python -m jobs.{verb}", description=config_class.__doc__, exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings; flags after it win")
    parser.add_argument("--dry_run", action="store_true", help="say rows, bytes, resources and hours; start nothing")
    parser.add_class_arguments(config_class, as_group=False)
    try:
        settings: Namespace = parser.parse_args(arguments)
        made = parser.instantiate(settings)
    except ArgumentError as error:
        raise ConfigError(
            f"{_plain(str(error), parser)}; python -m jobs.{verb} --help explains all settings"
        ) from error
    own = {name: value for name, value in made.items() if name not in ("config", "dry_run")}
    return config_class(**own), bool(made.dry_run)


def _plain(message: str, parser: ArgumentParser) -> str:
    """A parser's message on one line, with the nearest real flag where one is unknown."""
    line = " ".join(message.split())
    unknown = re.search(r"(?:unrecognized arguments|Key|Option|option)\W+(?:--)?([\w.]+)", line)
    known = [flag for action in parser._actions for flag in action.option_strings]
    if unknown is None or f"--{unknown[1]}" in known:
        return line
    return line + nearest(f"--{unknown[1]}", known)


def run_job(
    verb: str, config_class: type, stage: Callable[[Any], Manifest], next_command: Callable[[Any], str]
) -> None:
    """Parse, run the stage, say where its output is and what to do next; then exit.

    Stages start Ray themselves, after they have opened their inputs: what is missing is said in the first second.
    """
    set_up_logging()
    sys.exit(guarded(lambda: _run(*parse_run(verb, config_class), verb, stage, next_command)))


def print_estimate(verb: str, config: Any, room: "Room | None" = None) -> None:
    """Say what a job would take, in the room it would find if none is given. Raises what the stage would raise."""
    from hubert_ecg.pipeline.dry_run import described
    from hubert_ecg.pipeline.estimates import estimate
    from hubert_ecg.pipeline.room import room_of_job

    room = room or room_of_job()
    for line in described(verb, estimate(verb, config, room), config.output, room):
        print(line)


def _run(
    config: Any, dry_run: bool, verb: str, stage: Callable[[Any], Manifest], next_command: Callable[[Any], str]
) -> None:
    from hubert_ecg.storage import files
    from hubert_ecg.storage.artifact import MANIFEST

    if dry_run:
        print_estimate(verb, config)
        return
    began = time.monotonic()
    there_before = files.exists(files.join(files.absolute(config.output), MANIFEST))
    manifest = stage(config)
    if there_before:
        print(f"{verb}: nothing to do, this run is finished already")
    else:
        print(f"{verb}: done in {time.monotonic() - began:.0f} s")
    print(f"{verb}: output {manifest.directory} (fingerprint {manifest.fingerprint}); next: {next_command(config)}")
