"""The README's tables of results and speeds quote what is saved in benchmarks/results, to the digit."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.__main__ import COMMANDS
from benchmarks.figure import draw, panels
from benchmarks.report import Row
from benchmarks.saved import RESULTS, saved_runs

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SECTIONS = ("Results", "Speed")
PICTURE = "docs/results.svg"
NO_FIGURES = ("command", "beside")
"""Columns that hold words."""


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A row of a table of the README."""

    command: str
    subject: str
    """Its first cell; code in it, where there is some, otherwise its words up to a parenthesis, name what is quoted."""
    of_all: str
    """Head of the first column; what follows a comma holds for the subjects of all rows."""
    figures: dict[str, tuple[str, ...]]
    """Head of a column up to a parenthesis -> numbers as they stand in its cell, with ` x` behind ratios."""

    @property
    def parts(self) -> set[str]:
        code = re.search(r"`(.+?)`", self.subject)
        said = (code[1] if code else self.subject.split(" (")[0]).split(", ")
        return {*said, *self.of_all.split(", ")[1:]}


def quotes(text: str) -> Iterator[Quote]:
    """All rows of all tables in the sections that hold figures."""
    for section in SECTIONS:
        found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        assert found, section
        for table in re.finditer(r"(?:^\|.*\|\n)+", found[1], re.MULTILINE):
            below = re.search(r"`(python\s+-m\s[^`]+)`", found[1][table.end() :])
            yield from _rows(table[0], " ".join(below[1].split()) if below else "")


def _rows(table: str, command_below: str) -> Iterator[Quote]:
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    for cells in rows:
        of_column = dict(zip(head[1:], cells[1:], strict=True))
        command = of_column.get("command", "").strip("`") or command_below
        figures = {
            name.split(" (")[0]: tuple(re.findall(r"[+-]?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[+-]?\d+)?(?: x\b)?", words))
            for name, words in of_column.items()
            if name not in NO_FIGURES
        }
        yield Quote(command=command, subject=cells[0], of_all=head[0], figures=figures)


def problems(text: str, runs: Iterable[dict[str, Any]]) -> list[str]:
    """What a README quotes that no run of the same command has found."""
    rows = {run["command"]: [Row.from_json(row) for row in run["rows"]] for run in runs}
    said = []
    for quote in quotes(text):
        if quote.command not in rows:
            said.append(f"{quote.subject}: nothing is saved of {quote.command or 'any command'}")
            continue
        known = [row for row in rows[quote.command] if quote.parts <= set(row.name.split(", "))]
        for column, figures in quote.figures.items():
            meant = _of_column(column, known, set(quote.figures))
            said += [f"{quote.subject}: {each} is no figure of it" for each in figures if not _is_one(each, meant)]
        if not any(quote.figures.values()):
            said.append(f"{quote.subject}: quotes no figure")
    return said


def _of_column(column: str, rows: list[Row], columns: set[str]) -> list[Row]:
    """Rows whose name has the column's head as a part; where there are none, those that no other column names."""
    named = [row for row in rows if column in row.name.split(", ")]
    return named or [row for row in rows if not columns & set(row.name.split(", "))]


def _is_one(quoted: str, rows: list[Row]) -> bool:
    """Whether any figure of the rows (of a ratio: any ratio) is the quoted one, rounded to as many digits."""
    plain = quoted.replace(",", "").lstrip("+")
    number = plain.removesuffix(" x")
    mantissa, _, exponent = number.partition("e")
    decimals, scale = len(mantissa.partition(".")[2]), 10.0 ** int(exponent or 0)
    found = [
        value for row in rows for value in (row.figures() if number == plain else [row.ratio, *(row.spread or ())])
    ]
    return any(f"{value / scale:.{decimals}f}" == mantissa for value in found if value is not None)


def test_every_figure_of_the_readme_is_saved() -> None:
    assert problems(README, saved_runs(ROOT / RESULTS)) == []


def test_all_commands_that_are_quoted_are_run_by_the_one_for_all() -> None:
    quoted = {quote.command for quote in quotes(README)}
    assert quoted <= set(map(str, COMMANDS))


def test_the_picture_is_drawn_from_what_is_saved() -> None:
    """Its words and means; where they stand may differ by a hair between versions of matplotlib."""
    drawn, shown = (words(svg) for svg in (draw(panels(saved_runs(ROOT / RESULTS))), (ROOT / PICTURE).read_bytes()))
    assert drawn == shown
    assert any(re.fullmatch(r"0\.\d{3}", word) for word in shown)
    assert f"({PICTURE})" in README


def test_the_picture_holds_the_run_with_most_seeds() -> None:
    def run(**seeds: float) -> dict[str, Any]:
        figures = {"resnet": {"recordings": 9, "per_seed": seeds}}
        return {"command": "python -m benchmarks.proof --stage judge", "details": {"trials": {"natural": figures}}}

    runs = [run(a=0.5), run(a=0.5, b=0.6, c=0.7), run(a=0.5, b=0.6)]
    [[line]] = panels(runs).values()
    assert line.values == (0.5, 0.6, 0.7)
    assert "0.600" in words(draw(panels(runs)))


def words(svg: bytes) -> list[str]:
    return [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") if text.text]


RUN = "python -m benchmarks.model"
SPEED = Row(
    name="forward pass, small, float32", ours=(10.0, 11.0, 12.0), theirs=(21.0, 22.0, 23.0), unit="ms", in_turn=True
)
ROWS = [SPEED, Row(name="rate, small", ours=(3114.2,), unit="ECGs/s")]
SAVED = [{"command": RUN, "rows": [row.to_json() for row in ROWS]}]
TABLES = """## Results

| labels | macro AUROC |
|---|---|
| small, rate (so many) | 3,114 |

`python -m
benchmarks.model`.

## Speed

| what | ratio | beside | command |
|---|---|---|---|
| forward pass, float32 | 2.0 x (1.92 to 2.10 in 3 runs), 11 ms | another of 1999 | `python -m benchmarks.model` |

## After

| what | ratio |
|---|---|
| of no interest | 17 |
"""


def test_true_figures_pass() -> None:
    assert problems(TABLES, SAVED) == []


def test_a_false_figure_is_found() -> None:
    """A wrong digit, a figure of another row, and a row that nothing is saved of."""
    assert problems(TABLES.replace("1.92", "1.93"), SAVED) == ["forward pass, float32: 1.93 is no figure of it"]
    assert problems(TABLES.replace("3,114", "3,115"), SAVED) == ["small, rate (so many): 3,115 is no figure of it"]
    assert problems(TABLES.replace("11 ms", "3,114 ms"), SAVED) == ["forward pass, float32: 3,114 is no figure of it"]
    assert problems(TABLES.replace("pass, float32", "pass, float16"), SAVED)[0].endswith("2.0 x is no figure of it")
    assert problems(TABLES.replace("2.0 x", "11 x"), SAVED) == ["forward pass, float32: 11 x is no figure of it"]


def test_columns_and_heads_say_which_rows_are_meant() -> None:
    """A figure of another column, or of other recordings, is not one of this cell."""
    table = "| recipe, natural | macro AUROC | gain |\n|---|---|---|\n| `best` | 0.93 | 0.02 |\n\n`python -m x.y`\n"
    text = f"## Results\n\n{table}\n## Speed\n"
    names = {"natural, best": 0.93, "natural, best, gain": 0.02, "all, best": 0.91, "all, best, gain": 0.05}
    rows = [Row(name=name, ours=(value,), unit="macro AUROC").to_json() for name, value in names.items()]
    saved = [{"command": "python -m x.y", "rows": rows}]
    assert problems(text, saved) == []
    assert problems(text.replace("0.93", "0.91"), saved) == ["`best`: 0.91 is no figure of it"]
    swapped = text.replace("0.93", "0.99").replace("0.02", "0.93").replace("0.99", "0.02")
    assert len(problems(swapped, saved)) == 2


def test_a_figure_without_a_saved_run_is_found() -> None:
    assert len(problems(TABLES, [])) == 2
    without = TABLES.replace("`python -m\nbenchmarks.model`.", "")
    assert problems(without, SAVED) == ["small, rate (so many): nothing is saved of any command"]
