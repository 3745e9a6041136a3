"""The numbers of a sentence with their units, and how close they are meant to be."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Unit = Literal["bpm", "ms", "deg", "probability", "none", "other"]
Comparison = Literal["above", "below"]

_NUMBER = re.compile(r"(?<![\w.,])(?P<sign>[-+](?=\d))?(?P<digits>\d+(?:\.\d+)?|\.\d+)")
_UNITS: tuple[tuple[Unit, float, str], ...] = (
    (
        "bpm",
        1.0,
        r"bpm|/ ?min|(?:heart ?)?beats?(?: per |/| a |/ )min|times (?:a|per|each|every) min|per min"
        r"|a minute",
    ),
    ("ms", 1.0, r"ms\b|msec|milliseconds?"),
    ("other", 1.0, r"mV|Hz|mm|µV|-?years?|-?lead|st\b|nd\b|rd\b|th\b|\.? (?:January|of the)"),
    ("ms", 1000.0, r"s\b|sec\b|seconds?"),
    ("deg", 1.0, r"°|º|deg"),
    ("probability", 0.01, r"%|per ?cent\b"),
)
_UNIT = [(unit, factor, re.compile(rf"[ -]?(?:{pattern})", re.IGNORECASE)) for unit, factor, pattern in _UNITS]
_RANGE = re.compile(r"\s?(?:–|-|to|and|\.\.)\s?[-+]?\d")
_RANGE_BEFORE = re.compile(r"\d\s?(?:°|%|ms|bpm|/min)?\s?(?:–|-|to|\.\.)\s?$|\bbetween [^,;]*\band $")
_ABOUT = re.compile(
    r"(?:\b(?:about|around|roughly|approximately|approx\.|nearly|almost|circa|some|close to)|~|≈) ?[-+]?$",
    re.IGNORECASE,
)
_ABOVE = re.compile(
    r"(?:\b(?:above|over|more than|greater than|exceeding|exceeds|longer than|at least|from)|[>≥]) ?(?:the "
    r"|an? )?(?:\w+ ){0,2}?$",
    re.IGNORECASE,
)
_BELOW = re.compile(
    r"(?:\b(?:below|under|less than|smaller than|at most|up to|shorter than|no more than)|[<≤]) ?(?:the "
    r"|an? )?(?:\w+ ){0,2}?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as it stands in a sentence."""

    value: float
    """In bpm, ms or degrees; a probability between 0 and 1; as written where there is no unit."""
    tolerance: float
    """In the same unit: a unit of the last digit, more after `about`."""
    unit: Unit
    start: int
    end: int
    comparison: Comparison | None = None
    in_range: bool = False
    """Whether it is one end of a range, as normal limits are."""

    def fits(self, value: float) -> bool:
        """Whether this can be said of a value."""
        if self.comparison == "above":
            return value > self.value - self.tolerance
        if self.comparison == "below":
            return value < self.value + self.tolerance
        return abs(self.value - value) <= self.tolerance + 1e-9


def numbers(sentence: str) -> Iterator[Number]:
    """All numbers of a sentence; those of leads, names and ordinals are of the unit `other`."""
    for hit in _NUMBER.finditer(sentence):
        before, after = sentence[: hit.start()], sentence[hit.end() :]
        unit, factor, length = _unit(after)
        written = float(hit["digits"]) * (-1 if hit["sign"] == "-" else 1)
        last = 10.0 ** -len(hit["digits"].partition(".")[2])
        slack = max(last, 0.05 * abs(written)) if _ABOUT.search(before) else last
        in_range = bool(_RANGE.match(after[length:]) or _RANGE.match(after) or _RANGE_BEFORE.search(before))
        comparison: Comparison | None = "above" if _ABOVE.search(before) else None
        comparison = "below" if _BELOW.search(before) or after[length:].startswith(" or less") else comparison
        if unit == "none" and re.match(r"[A-Za-z'’]", after):
            unit = "other"
        yield Number(
            value=written * factor,
            tolerance=slack * factor,
            unit=unit,
            start=hit.start(),
            end=hit.end() + length,
            comparison=comparison,
            in_range=in_range,
        )


def _unit(after: str) -> tuple[Unit, float, int]:
    for unit, factor, pattern in _UNIT:
        found = pattern.match(after)
        if found:
            return unit, factor, found.end()
    return "none", 1.0, 0
