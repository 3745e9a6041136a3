"""An ECG on paper as an SVG picture in true millimetres: where it is printed, a large square is 5 mm wide."""

from collections.abc import Sequence
from html import escape

import numpy as np

from hubert_ecg.evaluation.ecg_shading import Noticed
from serve.paper import drawing as d
from serve.paper.layout import DEFAULT_STYLE, LARGE_MM, SMALL_MM, TICK_MM, PaperStyle

_UNITS = 100
"""Per millimetre: whole numbers then place a point to 0.01 mm, and stay short."""
_MARGIN_MM = 1.0
_FOOT_ROOM_MM = 6.0


def paper_svg(
    samples_mv: np.ndarray,
    sampling_rate_hz: float,
    leads: Sequence[str],
    style: PaperStyle = DEFAULT_STYLE,
    *,
    start_s: float = 0.0,
    attributions: np.ndarray | None = None,
    attribution_rate_hz: float = 100.0,
    findings: Sequence[Noticed] = (),
) -> str:
    """An SVG element of samples [lead, time] in mV, 10 s of them from `start_s` on; one sheet, wide at 50 mm/s.

    Leads, gaps, attributions and findings as in `drawing.drawings`. Raises InputError where the samples do not fit the
    leads, ConfigError without a lead.
    """
    (drawn,) = d.drawings(
        samples_mv,
        sampling_rate_hz,
        leads,
        style,
        start_s=start_s,
        attributions=attributions,
        attribution_rate_hz=attribution_rate_hz,
        findings=findings,
    )
    sheet = drawn.sheet
    width, height = sheet.width_mm + 2 * _MARGIN_MM, sheet.height_mm + _MARGIN_MM + _FOOT_ROOM_MM
    label = escape(f"ECG, leads {', '.join(leads)}; {drawn.foot}", quote=True)
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" width="{width:g}mm" '
            f'height="{height:g}mm" viewBox="{_u(-_MARGIN_MM)} {_u(-_MARGIN_MM)} {_u(width)} {_u(height)}" '
            'font-family="DejaVu Sans, Verdana, sans-serif">',
            _grid(sheet.width_mm, sheet.height_mm),
            f'<svg x="0" y="0" width="{_u(sheet.width_mm)}" height="{_u(sheet.height_mm)}" overflow="hidden">',
            *[_patch(patch) for patch in drawn.patches],
            _inked("pulse", "".join(_path(np.array(sheet.pulse_mm(line))) for line in sheet.lines_mm)),
            _inked("tick", "".join(_tick(s.x_mm, s.y_mm) for s in sheet.strips if s.ticked)),
            *[_curve(curve) for curve in drawn.curves],
            *[_text(name, x, y, d.NAME_MM, "name") for name, x, y in drawn.name_places()],
            "</svg>",
            _text(drawn.foot, 0, sheet.height_mm + d.FOOT_BELOW_MM, d.FOOT_MM, "foot"),
            "</svg>",
        ]
    )


def _u(mm: float) -> int:
    return round(mm * _UNITS)


def _grid(width_mm: float, height_mm: float) -> str:
    """Lines of small squares, then those of large squares over them, the last of which close the grid."""
    parts = [f'<rect class="paper" width="{_u(width_mm)}" height="{_u(height_mm)}" fill="{d.PAPER}"/>']
    for name, side, colour, line in (
        ("small", SMALL_MM, d.SMALL_LINES, d.SMALL_LINE_MM),
        ("large", LARGE_MM, d.LARGE_LINES, d.LARGE_LINE_MM),
    ):
        down = "".join(f"M{_u(k * side)} 0V{_u(height_mm)}" for k in range(round(width_mm / side) + 1))
        across = "".join(f"M0 {_u(k * side)}H{_u(width_mm)}" for k in range(round(height_mm / side) + 1))
        parts.append(f'<path class="{name}" stroke="{colour}" stroke-width="{_u(line)}" d="{down}{across}"/>')
    return "".join(parts)


def _patch(patch: d.Patch) -> str:
    return (
        f'<rect class="{patch.kind}" x="{_u(patch.x_mm)}" y="{_u(patch.y_mm)}" width="{max(_u(patch.width_mm), 1)}" '
        f'height="{_u(patch.height_mm)}" fill="{patch.colour}" fill-opacity="{patch.opacity:.2f}"/>'
    )


def _inked(kind: str, path: str) -> str:
    line = f'fill="none" stroke="{d.INK}" stroke-width="{_u(d.CURVE_MM)}" stroke-linejoin="round"'
    return f'<path class="{kind}" {line} d="{path}"/>'


def _curve(curve: d.Curve) -> str:
    path = "".join(_path(piece) for piece in curve.pieces_mm)
    return f'<g data-lead="{escape(curve.strip.name, quote=True)}">{_inked("curve", path)}</g>'


def _path(points_mm: np.ndarray) -> str:
    """Commands from the first point [point, 2] on, each further one relative to the last; a lone point is a dot."""
    points = np.rint(points_mm * _UNITS).astype(int)
    steps = np.diff(points, axis=0).tolist()
    begin = f"M{points[0, 0]} {points[0, 1]}"
    return f"{begin}l{' '.join(f'{dx} {dy}' for dx, dy in steps)}" if steps else f"{begin}h1"


def _tick(x_mm: float, y_mm: float) -> str:
    return f"M{_u(x_mm)} {_u(y_mm - TICK_MM)}v{_u(2 * TICK_MM)}"


def _text(text: str, x_mm: float, y_mm: float, size_mm: float, kind: str) -> str:
    weight, ink = ("bold", d.INK) if kind == "name" else ("normal", d.QUIET_INK)
    halo = f'paint-order="stroke" stroke="{d.PAPER}" stroke-width="{_u(d.HALO_MM)}" ' if kind == "name" else ""
    return (
        f'<text class="{kind}" x="{_u(x_mm)}" y="{_u(y_mm)}" font-size="{_u(size_mm)}" font-weight="{weight}" '
        f'fill="{ink}" {halo}xml:space="preserve">{escape(text)}</text>'
    )
