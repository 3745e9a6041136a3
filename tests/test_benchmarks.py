"""Benchmarks: what a row says, what is saved under which command, and one command that runs and shows them all."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as everything
from benchmarks import gpu
from benchmarks.__main__ import COMMANDS, PTBXL, Command, main
from benchmarks.report import Row, command_of, reporting
from benchmarks.saved import save, saved_runs
from benchmarks.table import markdown
from benchmarks.timing import in_turn, ms_each

BENCHMARKS = Path(everything.__file__).parent


def test_turns_are_compared_turn_by_turn() -> None:
    """The machine was half as fast in the second round, for both."""
    row = Row(name="a", ours=(1.0, 2.0, 1.0), theirs=(3.0, 6.0, 2.0), unit="s", in_turn=True)
    assert (row.ratio, row.spread, row.medians) == (3.0, (2.0, 3.0), (1.0, 3.0))


def test_without_turns_the_spread_is_that_of_any_two_runs() -> None:
    row = Row(name="a", ours=(2.0,), theirs=(3.0, 4.0, 6.0), unit="s")
    assert (row.ratio, row.spread) == (2.0, (1.5, 3.0))
    assert Row(name="a", ours=(2.0,), theirs=(4.0,), unit="s").spread is None


def test_more_is_better_turns_the_ratio_round() -> None:
    assert Row(name="a", ours=(200.0,), theirs=(100.0,), unit="per s", more_is_better=True).ratio == 2.0


def test_a_row_that_stands_alone_has_no_ratio() -> None:
    row = Row(name="AUROC", ours=(0.87,), unit="macro AUROC", interval=(0.84, 0.89), facts={"recordings": 429})
    assert (row.ratio, row.spread) == (None, None)
    assert set(row.figures()) == {0.87, 1, 0.84, 0.89, 429}
    assert " x " not in row.line()
    assert "0.87 macro AUROC (0.84 to 0.89)" in row.line()


def test_a_row_comes_back_from_json_as_it_was() -> None:
    row = Row(name="a", ours=(1.0, 2.0), theirs=(3.0, 5.0), unit="s", in_turn=True, interval=(0.5, 2.5), facts={"n": 3})
    assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row
    assert row.to_json()["follows"] == {"medians": (1.5, 4.0), "ratio": 2.75, "spread": (2.5, 3.0)}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("recipe", nargs="?")
    made.add_argument("variables", nargs="*")
    made.add_argument("--waveforms", metavar="W")
    made.add_argument("--records", type=int, default=100)
    made.add_argument("--sizes", nargs="+", default=["small", "base"])
    made.add_argument("--use_gpu", action="store_true")
    made.add_argument("--output", default="runs/x")
    made.add_argument("--save")
    return made


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("", ""),
        ("--records 100 --output elsewhere --save there", ""),
        ("--records 7 --use_gpu --sizes tiny base", " --records 7 --sizes tiny base --use_gpu"),
        ("--waveforms /somebody/else --records 7", " --waveforms W --records 7"),
        ("a.yaml threads=1 seeds=0,1", " a.yaml threads=1 seeds=0,1"),
    ],
)
def test_a_run_is_known_by_what_differs_from_the_defaults(arguments: str, command: str) -> None:
    made = parser()
    assert command_of("x", made, made.parse_args(arguments.split())) == f"python -m benchmarks.x{command}"


def reported(monkeypatch: pytest.MonkeyPatch, *arguments: str, value: float = 1.0) -> None:
    """A script of one row."""
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    made = argparse.ArgumentParser()
    made.add_argument("--records", type=int, default=100)
    with reporting("toy", made) as (options, report):
        report.head("one thread")
        report.add(Row(name=f"speed, {options.records}", ours=(value,), theirs=(3.0,), unit="s", against="a loop"))


def test_only_what_is_asked_for_is_saved_and_under_its_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reported(monkeypatch)
    assert "speed, 100" in capsys.readouterr().out
    reported(monkeypatch, "--save", str(tmp_path))
    reported(monkeypatch, "--records", "7", "--save", str(tmp_path), value=2.0)
    reported(monkeypatch, "--save", str(tmp_path), value=1.5)
    few, full = sorted(saved_runs(tmp_path), key=lambda run: len(run["command"]), reverse=True)
    assert (few["command"], full["command"]) == ("python -m benchmarks.toy --records 7", "python -m benchmarks.toy")
    assert [Row.from_json(run["rows"][0]).ratio for run in (few, full)] == [1.5, 2.0]
    assert full["setting"] == "one thread"
    assert set(full) >= {"machine", "load", "date", "code", "versions"}
    assert {"python", "numpy", "torch", "ray"} <= set(full["versions"])


def test_a_run_that_fails_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--save", str(tmp_path)])
    with pytest.raises(ZeroDivisionError), reporting("toy", argparse.ArgumentParser()):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_table_says_what_each_figure_is_compared_with(tmp_path: Path) -> None:
    row = Row(name="reading", ours=(1.0, 1.0), theirs=(2.0, 3.0), unit="ms", against="a loop", facts={"MiB": 12.34})
    save(str(tmp_path), "toy", toy_run(row))
    [*_, line] = markdown(saved_runs(tmp_path))
    assert line == (
        "| reading | 2.5 x (2 to 3) | 1 beside 2.5 ms; MiB 12.3 | a loop | `python -m benchmarks.toy` "
        "| A machine, 2026-01-02, load 2.5 before it |"
    )


def test_a_gpu_is_watched_from_the_first_sign_of_work_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of nvidia-smi's name that says what that says."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\ncase "$1" in *name*) echo NVIDIA X; echo NVIDIA W;; *) echo 40; echo 90;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpu, "EVERY_S", 0.01)
    assert gpu.names() == ["NVIDIA W", "NVIDIA X"]
    with gpu.watched() as readings:
        while len(readings) < 2:
            time.sleep(0.01)
    assert set(readings) == {40.0}
    assert gpu.busy_percent([0, 0, 50, 0, 100, 0]) == 50
    assert gpu.busy_percent([0.0, 0.0]) is None


def toy_run(row: Row) -> dict[str, Any]:
    return {
        "command": "python -m benchmarks.toy",
        "machine": "A machine",
        "setting": "",
        "load": 2.5,
        "date": "2026-01-02",
        "rows": [row.to_json()],
    }


def test_a_failure_is_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--results", str(tmp_path)])
    commands = [
        Command(script="no_such_script"),
        Command(script="coverage", arguments=("--data_sets", "2", "--draws", "50")),
        Command(script="recipe", arguments=("--input", PTBXL)),
        Command(script="train", needs_gpu=True),
    ]
    monkeypatch.setenv("PATH", "")  # Where no nvidia-smi is found, there is no GPU.
    assert main(commands) == 1
    said = capfd.readouterr()
    assert "failed with exit code 1: python -m benchmarks.no_such_script" in said.err
    assert "left out, needs --ptbxl: python -m benchmarks.recipe --input FOLDER" in said.err
    assert "left out, needs a GPU: python -m benchmarks.train" in said.err
    assert "| `python -m benchmarks.coverage --data_sets 2 --draws 50` |" in said.out
    assert [run["command"] for run in saved_runs(tmp_path)] == [
        "python -m benchmarks.coverage --data_sets 2 --draws 50"
    ]


def test_listing_and_showing_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--list", "--only", "model", "recipe"])
    assert main() == 0
    listed = capsys.readouterr().out.splitlines()
    assert [words.split()[2] for words in listed] == ["benchmarks.model", *["benchmarks.recipe"] * 3]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--table", "--results", str(tmp_path)])
    assert main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_every_script_that_reports_is_run_by_the_one_command() -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("*.py") if "reporting(" in path.read_text()} - {"report"}
    scripts |= {path.parent.name for path in BENCHMARKS.glob("*/__main__.py")}
    assert scripts == {command.script for command in COMMANDS}
    started = {path.stem for path in BENCHMARKS.glob("*.py") if '"__main__"' in path.read_text()}
    assert started == scripts - {"proof"} | {"__main__", "capacity", "population", "subset"}


def test_clocks_take_turns_and_forget_the_first_round() -> None:
    calls: list[str] = []
    times = iter(range(100))
    found = in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, clock=lambda: float(next(times))
    )
    assert calls == ["a", "b"] * 3
    assert found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert ms_each([2.0], 4) == (500.0,)
