"""The page with the ECG: landscape A4, in true millimetres."""

from collections.abc import Mapping, Sequence

import numpy as np
from fpdf.enums import StrokeJoinStyle

from serve.paper import drawing as d
from serve.paper.layout import LARGE_MM, SMALL_MM, TICK_MM
from serve.printing.document import ALARM, INK, QUIET, Document
from serve.printing.fonts import lenient
from serve.report.facts import Facts
from serve.report.text import capital, seen

SHEET_TOP_MM = 29.0
_HEAD_TOP_MM, _LINE_MM = 7.0, 4.6
_POINTS_PER_MM = 72 / 25.4
_TITLE_MM, _SMALLEST_POINTS = 16.0, 6.0
_MOST_LINES = 4
_VISIT = ("Recorded", "Clinician", "Note")


def add_ecg_page(pdf: Document, drawn: d.Drawing, patient: Mapping[str, str], facts: Facts, part: str) -> None:
    """One sheet or a piece of one. `part` says which, where there are several."""
    pdf.add_page(orientation="landscape")
    _head(pdf, patient, facts, part)
    left = (pdf.w - drawn.sheet.width_mm) / 2
    _sheet(pdf, drawn, left, SHEET_TOP_MM)


def _head(pdf: Document, patient: Mapping[str, str], facts: Facts, part: str) -> None:
    """Patient on the left, measurements in the middle, on the right what the model says and what to beware of."""
    for titles, left, right in ((("Name", "ID", "Born", "Sex"), pdf.l_margin, 94.0), (_VISIT, 98.0, 168.0)):
        for line, title in enumerate(titles):
            _field(pdf, title, patient[title], left, right, _HEAD_TOP_MM + line * _LINE_MM)
    for line, text in enumerate(_measured(facts)):
        _fitted(pdf, text, 172.0, 216.0, _HEAD_TOP_MM + line * _LINE_MM, points=8.5)
    for line, (text, colour) in enumerate(_judged(facts, part)):
        y = _HEAD_TOP_MM + line * _LINE_MM
        _fitted(pdf, text, 218.0, pdf.w - pdf.r_margin, y, points=8, bold=colour == ALARM, colour=colour)


def _field(pdf: Document, title: str, text: str, left: float, right: float, y: float) -> None:
    """A title and what was typed, or a line to write on."""
    pdf.set_xy(left, y)
    pdf.write_in(7, colour=QUIET)
    pdf.cell(_TITLE_MM, _LINE_MM, title)
    if text:
        _fitted(pdf, text, left + _TITLE_MM, right, y, points=9, bold=title == "Name")
        return
    with pdf.local_context(draw_color=QUIET, line_width=0.1):
        pdf.line(left + _TITLE_MM + 1, y + _LINE_MM - 0.8, right, y + _LINE_MM - 0.8)


def _fitted(
    pdf: Document,
    text: str,
    left: float,
    right: float,
    y: float,
    *,
    points: float,
    bold: bool = False,
    colour: tuple[int, int, int] = INK,
) -> None:
    """A text on one line: smaller where it is too long, and cut off with an ellipsis where that does not suffice."""
    room = right - left - 2 * pdf.c_margin
    pdf.write_in(points, bold=bold, colour=colour)
    if (width := pdf.get_string_width(text)) > room:
        pdf.set_font_size(max(points * room / width, _SMALLEST_POINTS))
        if pdf.get_string_width(text) > room:
            while text and pdf.get_string_width(text + "…") > room:
                text = text[:-1]
            text += "…"
    pdf.set_xy(left, y)
    pdf.cell(right - left, _LINE_MM, text)


def _measured(facts: Facts) -> list[str]:
    """Up to four lines; what could not be measured is a dash."""

    def value(name: str, unit: str) -> str:
        found = facts.measurement(name)
        return "-" if found is None or found.rounded is None else f"{found.rounded}{unit}"

    if facts.measurements is None:
        return []
    return [
        f"Rate {value('heart_rate', '/min')}   axis {value('axis', '°')}",
        f"PR {value('pr', ' ms')}   QRS {value('qrs', ' ms')}",
        f"QT {value('qt', ' ms')}",
        f"QTcB {value('qtc_bazett', ' ms')}  QTcF {value('qtc_fridericia', ' ms')}",
    ]


def _judged(facts: Facts, part: str) -> list[tuple[str, tuple[int, int, int]]]:
    lines = [(part, QUIET)] if part else []
    if any(each.severity == "severe" for each in facts.findings):
        lines.append(("⚠ Signal quality: see the report", ALARM))
    if facts.out_of_scope:
        lines.append((f"⚠ Out of scope: {', '.join(facts.out_of_scope)}", ALARM))
    found = [lenient(each) for each in seen(facts)]
    if not facts.judged:
        return [*lines, (f"⚠ {capital(found[0])}", ALARM)]
    room = _MOST_LINES - len(lines)
    if len(found) > room:
        found = [*found[: room - 1], f"and {len(found) - room + 1} more, see the report"]
    return [*lines, (f"Model: {found[0]}", INK), *[(each, INK) for each in found[1:]]]


def _sheet(pdf: Document, drawn: d.Drawing, left: float, top: float) -> None:
    sheet = drawn.sheet
    with pdf.local_context(fill_color=d.PAPER):
        pdf.rect(left, top, sheet.width_mm, sheet.height_mm, style="F")
    _grid(pdf, left, top, sheet.width_mm, sheet.height_mm)
    corner = np.array([left, top])
    with pdf.rect_clip(left, top, sheet.width_mm, sheet.height_mm):
        for patch in drawn.patches:
            with pdf.local_context(fill_color=patch.colour, fill_opacity=patch.opacity):
                pdf.rect(left + patch.x_mm, top + patch.y_mm, patch.width_mm, patch.height_mm, style="F")
        # Mitred corners would make each R wave higher than it is.
        with pdf.local_context(draw_color=d.INK, line_width=d.CURVE_MM, stroke_join_style=StrokeJoinStyle.ROUND):
            for line in sheet.lines_mm:
                _polyline(pdf, np.array(sheet.pulse_mm(line)) + corner)
            for strip in sheet.strips:
                if strip.ticked:
                    x, y = left + strip.x_mm, top + strip.y_mm
                    pdf.line(x, y - TICK_MM, x, y + TICK_MM)
            for curve in drawn.curves:
                for piece in curve.pieces_mm:
                    _polyline(pdf, piece + corner)
    pdf.write_in(d.NAME_MM * _POINTS_PER_MM, bold=True)
    for name, x, y in drawn.name_places():
        pdf.text(left + x, top + y, name)
    pdf.write_in(d.FOOT_MM * _POINTS_PER_MM, colour=QUIET)
    pdf.text(left, top + sheet.height_mm + d.FOOT_BELOW_MM, drawn.foot)


def _grid(pdf: Document, left: float, top: float, width: float, height: float) -> None:
    for side, colour, thickness in (
        (SMALL_MM, d.SMALL_LINES, d.SMALL_LINE_MM),
        (LARGE_MM, d.LARGE_LINES, d.LARGE_LINE_MM),
    ):
        with pdf.local_context(draw_color=colour, line_width=thickness):
            for k in range(round(width / side) + 1):
                pdf.line(left + k * side, top, left + k * side, top + height)
            for k in range(round(height / side) + 1):
                pdf.line(left, top + k * side, left + width, top + k * side)


def _polyline(pdf: Document, points: np.ndarray) -> None:
    """A line through [point, 2]; a lone point is a dot."""
    pairs: Sequence[tuple[float, float]] = [(x, y) for x, y in points.tolist()]
    pdf.polyline(pairs if len(pairs) > 1 else [pairs[0], (pairs[0][0] + 0.05, pairs[0][1])])
