"""Small square plots as SVG for a report: ROC, precision-recall and reliability curves, and intervals on a line.

Written by hand rather than drawn by a plotting library: dozens of them then take milliseconds and little room.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hubert_ecg.evaluation.reliability import Bin

_SIDE = 100
"""Units of a plot's unit square."""
_MOST_POINTS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One curve in the unit square."""

    x: np.ndarray
    y: np.ndarray
    colour: str
    dashed: bool = False
    dots: bool = False
    """Mark the points, as of a reliability curve."""
    radius: float = 1.6
    """Of the dots."""


def square_svg(lines: Sequence[Line], *, x_label: str, y_label: str, title: str, reference: str = "") -> str:
    """A unit square with curves. `reference`: `diagonal`, or a height between 0 and 1 as text, drawn in grey."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" viewBox="-24 -14 134 140" '
        f'font-family="sans-serif" font-size="7.5">',
        f'<text x="{_SIDE / 2}" y="-5" text-anchor="middle" font-weight="bold" fill="#333">{title}</text>',
        *[
            f'<path d="M{p} 0V{_SIDE}M0 {p}H{_SIDE}" stroke="#ececec" stroke-width="0.6"/>'
            for p in (0, 25, 50, 75, 100)
        ],
        *[
            f'<text x="{p}" y="109" text-anchor="middle" fill="#555">{p / 100:g}</text>'
            f'<text x="-3" y="{_SIDE - p + 2.5}" text-anchor="end" fill="#555">{p / 100:g}</text>'
            for p in (0, 50, 100)
        ],
        f'<text x="{_SIDE / 2}" y="121" text-anchor="middle" fill="#333">{x_label}</text>',
        f'<text transform="translate(-17 {_SIDE / 2}) rotate(-90)" text-anchor="middle" fill="#333">{y_label}</text>',
    ]
    if reference:
        path = "M0 100L100 0" if reference == "diagonal" else f"M0 {_SIDE * (1 - float(reference)):.1f}H100"
        parts.append(f'<path d="{path}" stroke="#8a8a8a" stroke-width="0.8" stroke-dasharray="2 2" fill="none"/>')
    parts += [_curve(line) for line in lines]
    return "".join([*parts, "</svg>"])


def reliability_line(curve: Sequence[Bin], *, colour: str, dashed: bool = False) -> Line:
    """The bins of a reliability curve as a line with dots."""
    x, y = np.array([bin.predicted for bin in curve]), np.array([bin.observed for bin in curve])
    return Line(x=x, y=y, colour=colour, dashed=dashed, dots=True)


def interval_svg(estimate: float, lower: float | None, upper: float | None, *, low: float = 0.5) -> str:
    """An estimate and its interval on a line from `low` to 1."""

    def place(value: float) -> float:
        return round(max(0.0, (value - low) / (1 - low)) * 100, 1)

    bar = ""
    if lower is not None and upper is not None:
        bar = f'<path d="M{place(lower)} 5H{place(upper)}" stroke="#0072b2" stroke-width="2.4" opacity="0.5"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" aria-hidden="true" viewBox="-3 0 106 10" class="forest">'
        f'<path d="M0 5H100" stroke="#ddd"/>{bar}<circle cx="{place(estimate)}" cy="5" r="2.6" fill="#0072b2"/></svg>'
    )


def _curve(line: Line) -> str:
    x, y = _thinned(line.x, line.y)
    points = [f"{100 * a:.1f} {100 * (1 - b):.1f}" for a, b in zip(x, y, strict=True)]
    if not points:
        return ""
    dash = ' stroke-dasharray="3 2"' if line.dashed else ""
    path = f'<path d="M{"L".join(points)}" fill="none" stroke="{line.colour}" stroke-width="1.4"{dash}/>'
    if line.dots:
        path += "".join(
            f'<circle cx="{100 * a:.1f}" cy="{100 * (1 - b):.1f}" r="{line.radius}" fill="{line.colour}"/>'
            for a, b in zip(x, y, strict=True)
        )
    return path


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So many points as can be seen, the first and the last among them."""
    if len(x) <= _MOST_POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int))
    return x[keep], y[keep]
