"""What every benchmark has to say: typed rows, printed as they come, and saved when that is asked for."""

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from benchmarks.saved import RESULTS, save
from benchmarks.surroundings import machine, surroundings

NOT_IN_COMMANDS = ("help", "save", "output")
"""Options that change nothing of what is measured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. With another side it is a comparison and has a ratio; without, it stands alone."""

    name: str
    """What was measured, in parts that are separated by a comma and a space."""
    ours: tuple[float, ...]
    """Of each run."""
    unit: str
    """Of a run, of both sides."""
    theirs: tuple[float, ...] = ()
    """Of each run of the other side."""
    against: str = ""
    """What it is compared with."""
    in_turn: bool = False
    """Both sides took turns: run i of one belongs to run i of the other."""
    more_is_better: bool = False
    """For speeds; times and sizes are better when they are smaller."""
    interval: tuple[float, float] | None = None
    """95 % interval of an estimate."""
    facts: dict[str, float] = field(default_factory=dict)
    """Other figures about it, by a name that ends in their unit."""

    @property
    def ratio(self) -> float | None:
        """How many times better: the median over turns, or of one median to the other where there were none."""
        if not self.theirs:
            return None
        if self.in_turn:
            return statistics.median(self._ratios())
        return self._better(statistics.median(self.ours), statistics.median(self.theirs))

    @property
    def spread(self) -> tuple[float, float] | None:
        """Lowest and highest ratio of any turn; without turns, of any run of one side to any of the other."""
        ratios = self._ratios()
        return (min(ratios), max(ratios)) if len(ratios) > 1 else None

    @property
    def medians(self) -> tuple[float, ...]:
        """Of our runs, and of the other side's where there are any."""
        return tuple(statistics.median(side) for side in (self.ours, self.theirs) if side)

    def figures(self) -> list[float]:
        """All numbers that this row stands for."""
        found = [*self.medians, *self.ours, *self.theirs, len(self.ours), *(self.interval or ()), *self.facts.values()]
        return found if self.ratio is None else [self.ratio, *(self.spread or ()), *found]

    def line(self) -> str:
        """As it is printed."""
        words = [f"{self.name:<56}", f"{shown_ratio(self):<24}", shown_medians(self)]
        if self.against:
            words.append(f"(beside: {self.against})" if self.theirs else f"({self.against})")
        words += [f"{name} {shown(value)}" for name, value in self.facts.items()]
        return "  ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Its fields, and for readers of the file what follows from them."""
        follows = {"medians": self.medians, "ratio": self.ratio, "spread": self.spread}
        return asdict(self) | {"follows": {name: value for name, value in follows.items() if value is not None}}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        found: dict[str, Any] = {each.name: stored[each.name] for each in fields(cls)}
        tuples = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(**(found | tuples))

    def _ratios(self) -> list[float]:
        if self.in_turn:
            pairs = list(zip(self.ours, self.theirs, strict=True))
        else:
            pairs = [(ours, theirs) for ours in self.ours for theirs in self.theirs]
        return [self._better(*pair) for pair in pairs]

    def _better(self, ours: float, theirs: float) -> float:
        above, below = (ours, theirs) if self.more_is_better else (theirs, ours)
        return above / below if below else float("inf")


def shown(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def shown_ratio(row: Row) -> str:
    """The ratio and its spread; nothing for a row that stands alone."""
    if row.ratio is None:
        return ""
    return f"{shown(row.ratio)} x{shown_spread(row.spread)}"


def shown_medians(row: Row) -> str:
    """Both sides' medians, and the interval of an estimate."""
    return f"{' beside '.join(map(shown, row.medians))} {row.unit}{shown_spread(row.interval)}"


def shown_spread(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f" ({shown(pair[0])} to {shown(pair[1])})"


@dataclass(kw_only=True)
class Report:
    """The rows of a run so far."""

    rows: list[Row] = field(default_factory=list)
    setting: str = ""
    """What holds for all rows: threads, device, batch."""
    details: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping, as JSON values."""

    def head(self, setting: str = "") -> None:
        """Print the machine and what holds for all rows."""
        self.setting = setting
        print(f"# {', '.join(filter(None, [machine(), setting]))}", flush=True)

    def add(self, row: Row) -> None:
        """Print a row and keep it."""
        print(row.line(), flush=True)
        self.rows.append(row)


@contextmanager
def reporting(script: str, parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Namespace, Report]]:
    """The options of a run, and its report; what was reported is saved after the run if --save asks for it.

    Saving is not the default, as a run that tries something out is not to end up in what is committed; a run that fails
    saves nothing.
    """
    parser.add_argument(
        "--save",
        nargs="?",
        const=RESULTS,
        metavar="FOLDER",
        help=f"add the rows to FOLDER/{script}.json, in place of those of the same command (FOLDER: {RESULTS})",
    )
    options = parser.parse_args()
    around = surroundings() if options.save else {}
    report = Report()
    yield options, report
    if options.save:
        run = {"command": command_of(script, parser, options), **around, "setting": report.setting}
        details = {"details": report.details} if report.details else {}
        save(options.save, script, run | {"rows": [row.to_json() for row in report.rows]} | details)


def command_of(script: str, parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The command of a run, without options that are at their defaults.

    An option with a metavar names a place on this machine, and is shown by it; so are commands of two people the same.
    """
    words = ["python", "-m", f"benchmarks.{script}"]
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if action.dest in NOT_IN_COMMANDS or action.help == argparse.SUPPRESS or value == action.default:
            continue
        if action.option_strings:
            words.append(action.option_strings[0])
        if action.nargs != 0:
            values = [action.metavar] if action.metavar else value if isinstance(value, list) else [value]
            words += map(str, values)
    return " ".join(words)
