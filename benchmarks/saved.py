"""Results as they are committed: one file per script, and in it one run per command."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = "benchmarks/results"


def save(folder: str, script: str, run: dict[str, Any]) -> None:
    """Put a run into the file of its script, in place of an earlier one of the same command."""
    path = Path(folder, f"{script}.json")
    runs = {old["command"]: old for old in _runs(path)} | {run["command"]: run}
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = [runs[command] for command in sorted(runs)]
    path.write_text(json.dumps({"runs": ordered}, indent=1, ensure_ascii=False) + "\n")


def saved_runs(folder: str | Path) -> Iterator[dict[str, Any]]:
    """All runs of all scripts, by file and command."""
    for path in sorted(Path(folder).glob("*.json")):
        yield from _runs(path)


def _runs(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []
    return runs
