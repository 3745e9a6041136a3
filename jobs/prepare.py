"""`python -m jobs.prepare`: see hubert_ecg/pipeline/prepare.py."""

import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.pipeline.raw_input import RawInput
from jobs.cli import run_job


def next_command(c: PrepareConfig) -> str:
    return f"python -m jobs.dump --waveforms {c.output} --descriptor mfcc --output F"


def spelled_out(arguments: Sequence[str], config_class: type[RawInput] = PrepareConfig) -> list[str]:
    """Arguments with the source's name put before its own settings: `--train A.csv` -> `--manifest.train A.csv`.

    What is a setting of the job itself, or of no source, stays as it is and is judged by the parser.
    """
    own = {field.name for field in fields(config_class)}
    chosen = _value_of(arguments, "source") or str(config_class.source)
    source = next((field for field in fields(config_class) if field.name == chosen), None)
    of_source = _setting_names(source.type) if source is not None else set()
    spelled = []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        top = name.split(".")[0]
        belongs = argument.startswith("--") and top not in own and top in of_source
        spelled.append(f"--{chosen}.{name}{equals}{value}" if belongs else argument)
    return spelled


def _value_of(arguments: Sequence[str], name: str) -> str | None:
    """The value given to `--name VALUE` or `--name=VALUE`, the last one if there are several."""
    found = None
    for place, argument in enumerate(arguments):
        if argument == f"--{name}" and place + 1 < len(arguments):
            found = arguments[place + 1]
        elif argument.startswith(f"--{name}="):
            found = argument.partition("=")[2]
    return found


def _setting_names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind) if field.name != "input"} if is_dataclass(kind) else set()


if __name__ == "__main__":
    sys.argv[1:] = spelled_out(sys.argv[1:])
    run_job("prepare", PrepareConfig, prepare, next_command)
