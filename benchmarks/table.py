"""One Markdown table of all results that are saved."""

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.report import Row, shown, shown_medians, shown_ratio

COLUMNS = ("what", "ratio (spread)", "median", "compared with", "command", "machine, date")

QUIET_LOAD = 0.5
"""Processes of others that wanted a core in the minute before a run; from there on the table tells."""


def markdown(runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Line by line; a ratio above 1 means that ours is the better."""
    yield _line(COLUMNS)
    yield _line(["---"] * len(COLUMNS))
    for run in runs:
        busy = f"load {run['load']:g} before it" if (run["load"] or 0) > QUIET_LOAD else ""
        where = ", ".join(filter(None, [run["machine"], run["setting"], run["date"], busy]))
        for row in map(Row.from_json, run["rows"]):
            yield _line([row.name, shown_ratio(row), _median(row), row.against, f"`{run['command']}`", where])


def _median(row: Row) -> str:
    facts = [f"{name} {shown(value)}" for name, value in row.facts.items()]
    return "; ".join([shown_medians(row), *facts])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
