"""The README is true: its commands parse into real settings, its flags exist, its files are there."""

import re
import shlex
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from jobs.recipe import read_recipe
from tests.job_commands import FROM_RAW, ROOT, STAGES, config_class, parsed

README = (ROOT / "README.md").read_text()


def settings_of(kind: Any, prefix: str = "") -> set[str]:
    """Dotted names of all settings of a dataclass."""
    names = set()
    hints = get_type_hints(kind)
    for field in fields(kind):
        names.add(prefix + field.name)
        if is_dataclass(hints[field.name]):
            names |= settings_of(hints[field.name], f"{prefix}{field.name}.")
    return names


def flags_of(verb: str) -> set[str]:
    """All flags of a job; those of a source of recordings also go by their short names."""
    names = settings_of(config_class(verb))
    short = {name.split(".", 1)[1] for name in names if "." in name} if verb in FROM_RAW else set()
    return names | short | {"help", "config", "print_config", "dry_run"}


def shell_commands(kind: str = "bash") -> list[str]:
    """`bash` blocks can be run one by one; the others hold names of the reader's own."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python -m jobs.")]


@pytest.mark.parametrize("command", shell_commands() + shell_commands("text"))
def test_every_command_parses(command: str) -> None:
    parsed(command)


def test_the_commands_form_a_chain() -> None:
    """Every input of a command is the output of one before it, so that they can be copied one by one."""
    made: set[str] = set()
    for command in shell_commands():
        words = shlex.split(command)
        for flag, value in pairwise(words):
            if flag in ("--waveforms", "--features", "--labels", "--checkpoint"):
                assert value in made, command
            if flag == "--codebooks":
                assert str(Path(value.strip("[]")).parent) in made, command
        if "--output" in words:
            made.add(words[words.index("--output") + 1])
    assert len(made) >= 10


def test_every_flag_that_is_mentioned_exists() -> None:
    mentioned = 0
    for verb, rest in re.findall(r"jobs\.(\w+)((?: [^`|\n]*)?)", README):
        if verb not in STAGES:
            continue
        known = flags_of(verb)
        for flag in re.findall(r"--([a-z_.]+)", rest):
            assert flag in known, f"jobs.{verb} --{flag}"
            mentioned += 1
    assert mentioned > 40


def test_recipes_and_files_that_are_mentioned_exist() -> None:
    for name, rest in re.findall(r"jobs\.recipe (jobs/configs/\w+\.yaml)([^`\n]*)", README):
        read_recipe(ROOT / name, dict(pair.split("=", 1) for pair in rest.split()))
    for name in re.findall(r"`((?:hubert_ecg|jobs|tests)/[\w/]*(?:\.\w+)?)`", README):
        assert (ROOT / name).exists(), name
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([\w-]+)\b", README):
        assert re.search(rf"^{target}:", targets, re.MULTILINE), target


def test_python_examples_are_valid() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(block, "README.md", "exec")
