"""Where each second of each lead lies on ECG paper, in millimetres. Nothing is drawn here.

Columns follow one another in time, as on paper that ran through a recorder, so that each beat stands above itself in
the rhythm strip. Of a recording that is too short for that the columns overlap in time instead, and the sheet says so.
Coordinates run from the upper left corner of the grid, x rightwards and y downwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from hubert_ecg.ecg.leads import STANDARD_LEADS, canonical_lead
from hubert_ecg.errors import ConfigError

Layout = Literal["3x4", "6x2", "12x1"]
SPEEDS_MM_S = (25, 50)
GAINS_MM_MV = (5, 10, 20)
SHEET_S = 10.0
"""A sheet shows this much of a recording, or less."""
PAGE_MM = 250.0
"""What fits across a landscape A4 page: 10 s at 25 mm/s."""
LEAD_IN_MM = 15.0
"""Before the first second: room for the calibration pulse."""
TAIL_MM = 5.0
PULSE_S, PULSE_MV = 0.2, 1.0
LARGE_MM, SMALL_MM = 5.0, 1.0
"""Sides of the squares."""
TICK_MM = 2.0
"""How far a tick between columns reaches up and down from 0 mV."""
_TRACES_MM = 165.0
"""The lines of a sheet are at most this high together."""
_TALLEST_LINE_MM = 40.0
_ROOM_ABOVE_MM = 15.0
_FLAT_BEFORE_PULSE_MM = 1.5
_ROWS = {"3x4": 3, "6x2": 6, "12x1": 12}
_MOST_COLUMNS = {"3x4": 4, "6x2": 2, "12x1": 1}


@dataclass(frozen=True, kw_only=True)
class PaperStyle:
    """How the paper runs. What is not on offer is refused."""

    speed_mm_s: int = 25
    gain_mm_mv: int = 10
    layout: Layout = "3x4"
    """Rows by columns of the twelve leads; 3x4 has a rhythm strip of lead II below."""
    filtered: bool = False
    """Whether the display filter (`display_filter`) is on."""

    def __post_init__(self) -> None:
        offered = {"speed_mm_s": SPEEDS_MM_S, "gain_mm_mv": GAINS_MM_MV, "layout": get_args(Layout)}
        for name, values in offered.items():
            if getattr(self, name) not in values:
                raise ConfigError(f"{name}: wanted one of {list(values)}, got {getattr(self, name)!r}; choose another")


DEFAULT_STYLE = PaperStyle()


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A stretch of one lead on the sheet."""

    row: int
    """Of the samples."""
    name: str
    start_s: float
    """Of the recording."""
    seconds: float
    """May reach beyond the recording's end; nothing is drawn there."""
    x_mm: float
    y_mm: float
    """Of 0 mV."""
    height_mm: float
    """Of its line; the curve may leave it."""
    ticked: bool = False
    """Whether another lead stands before it in the same line, so that a tick parts them."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One sheet of paper with everything in its place."""

    style: PaperStyle
    width_mm: float
    """Of the grid, a whole number of large squares."""
    height_mm: float
    strips: tuple[Strip, ...]
    lines_mm: tuple[float, ...]
    """0 mV of each line, from above: where calibration pulses stand."""
    start_s: float
    end_s: float
    """What of the recording is on the sheet."""
    duration_s: float
    """Of the whole recording."""
    overlapping: bool = False
    """Whether its columns overlap in time."""

    def pulse_mm(self, line_mm: float) -> tuple[tuple[float, float], ...]:
        """The points (x, y) of the calibration pulse of a line: 1 mV for 0.2 s."""
        width, top = PULSE_S * self.style.speed_mm_s, line_mm - PULSE_MV * self.style.gain_mm_mv
        left = (LEAD_IN_MM - width) / 2
        right, flat = left + width, _FLAT_BEFORE_PULSE_MM
        return (
            (left - flat, line_mm),
            (left, line_mm),
            (left, top),
            (right, top),
            (right, line_mm),
            (right + flat, line_mm),
        )


def sheet_starts_s(duration_s: float) -> tuple[float, ...]:
    """Where the sheets of a recording begin, seconds: one after the other, the last one drawn back so as to be full."""
    count = max(1, round(-(-(duration_s - 0.01 * SHEET_S) // SHEET_S)))
    return tuple(min(k * SHEET_S, max(duration_s - SHEET_S, 0.0)) for k in range(count))


def sheet_of(leads: Sequence[str], duration_s: float, style: PaperStyle, *, start_s: float = 0.0) -> Sheet:
    """The sheet of up to 10 s from `start_s` on, drawn back where fewer than 10 s are left.

    Any number of leads under any name: the standard ones come first, in their order. The twelve of them fill the
    columns of the layout; other numbers fill as many as are needed, one column having the whole 10 s. The rhythm strip
    is lead II, or the first lead; there is none where each lead has its 10 s already.
    """
    if not leads:
        raise ConfigError("leads: wanted one or more to draw, got none; choose a lead")
    start_s = min(max(start_s, 0.0), max(duration_s - SHEET_S, 0.0))
    shown_s = min(SHEET_S, duration_s - start_s)
    order = _standard_order(leads)
    columns = min(_MOST_COLUMNS[style.layout], -(-len(order) // _ROWS[style.layout]))
    rows = -(-len(order) // columns)
    rhythm = style.layout == "3x4" and columns > 1
    grid_mm, height, lines = _lines(rows + rhythm)
    offsets, column_s = _columns(columns, shown_s)
    strips = []
    for place, row in enumerate(order):
        column, line = divmod(place, rows)
        strips.append(
            Strip(
                row=row,
                name=canonical_lead(leads[row]) or leads[row],
                start_s=start_s + offsets[column],
                seconds=column_s,
                x_mm=LEAD_IN_MM + column * SHEET_S / columns * style.speed_mm_s,
                y_mm=lines[line],
                height_mm=height,
                ticked=column > 0,
            )
        )
    if rhythm:
        first = next((strip for strip in strips if strip.name == "II"), strips[0])
        strips.append(replace(first, start_s=start_s, seconds=SHEET_S, x_mm=LEAD_IN_MM, y_mm=lines[-1], ticked=False))
    return Sheet(
        style=style,
        width_mm=LEAD_IN_MM + SHEET_S * style.speed_mm_s + TAIL_MM,
        height_mm=grid_mm,
        strips=tuple(strips),
        lines_mm=lines,
        start_s=start_s,
        end_s=start_s + shown_s,
        duration_s=duration_s,
        overlapping=any(abs(offset - k * SHEET_S / columns) > 1e-9 for k, offset in enumerate(offsets)),
    )


def torn(sheet: Sheet, *, page_mm: float = PAGE_MM) -> tuple[Sheet, ...]:
    """The sheet cut into pieces that fit on a page, each with its own pulses and names; at 50 mm/s there are two."""
    traces_mm = sheet.width_mm - LEAD_IN_MM - TAIL_MM
    if traces_mm <= page_mm:
        return (sheet,)
    pieces = []
    for number in range(round(-(-traces_mm // page_mm))):
        left = LEAD_IN_MM + number * page_mm
        strips = [_within(strip, left, left + page_mm, sheet.style.speed_mm_s) for strip in sheet.strips]
        kept = tuple(strip for strip in strips if strip is not None)
        pieces.append(replace(sheet, strips=kept, width_mm=LEAD_IN_MM + page_mm + TAIL_MM))
    return tuple(pieces)


def _within(strip: Strip, left: float, right: float, speed_mm_s: int) -> Strip | None:
    """What of a strip lies between two places of its sheet, moved to a page that begins with the first of them."""
    begin, end = max(strip.x_mm, left), min(strip.x_mm + strip.seconds * speed_mm_s, right)
    if end - begin < 1e-6:
        return None
    return replace(
        strip,
        start_s=strip.start_s + (begin - strip.x_mm) / speed_mm_s,
        seconds=(end - begin) / speed_mm_s,
        x_mm=LEAD_IN_MM + begin - left,
        ticked=strip.ticked and begin > left,
    )


def _standard_order(leads: Sequence[str]) -> list[int]:
    """Rows of the samples: standard leads in their order, then the others as they come."""
    known = {lead: place for place, lead in enumerate(STANDARD_LEADS)}
    return sorted(range(len(leads)), key=lambda row: known.get(canonical_lead(leads[row]) or "", len(known)))


def _lines(count: int) -> tuple[float, float, tuple[float, ...]]:
    """(height of the grid, height of a line, 0 mV of each), whole millimetres, so that 0 mV lies on a line of the grid.

    Lines too low for an R wave of 1 mV get room for it above the first of them.
    """
    if count <= _ROWS["6x2"]:
        height = min(_TALLEST_LINE_MM, _TRACES_MM // count)
        return -(-count * height // LARGE_MM) * LARGE_MM, height, tuple(k * height + height // 2 for k in range(count))
    height = max(SMALL_MM, (_TRACES_MM - _ROOM_ABOVE_MM) // count)
    return _TRACES_MM, height, tuple(_ROOM_ABOVE_MM + k * height for k in range(count))


def _columns(count: int, shown_s: float) -> tuple[list[float], float]:
    """(where each column begins, how much it holds), seconds of what is shown.

    A last column that would lose more than half of itself is the sign of a short recording.
    """
    column_s = SHEET_S / count
    if count == 1 or shown_s >= SHEET_S - column_s / 2:
        return [k * column_s for k in range(count)], column_s
    held_s = min(column_s, shown_s)
    return [k * (shown_s - held_s) / (count - 1) for k in range(count)], held_s
