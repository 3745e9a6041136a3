"""An ECG on paper as pixels, for a model that looks at it."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve.paper import drawing as d
from serve.paper.layout import DEFAULT_STYLE, LARGE_MM, SMALL_MM, TICK_MM, PaperStyle

_MM_PER_INCH, _DOTS_PER_INCH = 25.4, 150.0
_POINTS_PER_MM = 72 / _MM_PER_INCH
_MARGIN_MM, _FOOT_ROOM_MM = 1.0, 6.0


def paper_png(
    samples_mv: np.ndarray,
    sampling_rate_hz: float,
    leads: Sequence[str],
    style: PaperStyle = DEFAULT_STYLE,
    *,
    start_s: float = 0.0,
) -> bytes:
    """The sheet that `paper_svg` draws as a PNG file, 1600 pixels wide at 25 mm/s; it holds nothing but the ECG.

    Equal arguments give equal bytes. Errors as `paper_svg`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (drawn,) = d.drawings(samples_mv, sampling_rate_hz, leads, style, start_s=start_s)
    sheet = drawn.sheet
    width, height = sheet.width_mm + 2 * _MARGIN_MM, sheet.height_mm + _MARGIN_MM + _FOOT_ROOM_MM
    # No pyplot: its list of open figures is shared by all sessions of a server.
    figure = Figure(figsize=(width / _MM_PER_INCH, height / _MM_PER_INCH), dpi=_DOTS_PER_INCH, facecolor="white")
    axes = figure.add_axes(
        (
            _MARGIN_MM / width,
            _FOOT_ROOM_MM / height,
            sheet.width_mm / width,
            sheet.height_mm / height,
        ),
        xlim=(0, sheet.width_mm),
        ylim=(sheet.height_mm, 0),
        facecolor=d.PAPER,
    )
    axes.set_axis_off()
    for side, colour, line_mm in (
        (SMALL_MM, d.SMALL_LINES, d.SMALL_LINE_MM),
        (LARGE_MM, d.LARGE_LINES, d.LARGE_LINE_MM),
    ):
        look: dict[str, Any] = {"colors": colour, "linewidths": line_mm * _POINTS_PER_MM, "zorder": 1}
        axes.vlines(np.arange(0, sheet.width_mm + side, side), 0, sheet.height_mm, **look)
        axes.hlines(np.arange(0, sheet.height_mm + side, side), 0, sheet.width_mm, **look)
    ink: dict[str, Any] = {
        "color": d.INK,
        "linewidth": d.CURVE_MM * _POINTS_PER_MM,
        "solid_joinstyle": "round",
        "zorder": 2,
    }
    lines = [np.array(sheet.pulse_mm(line)) for line in sheet.lines_mm]
    lines += [np.array([[s.x_mm, s.y_mm - TICK_MM], [s.x_mm, s.y_mm + TICK_MM]]) for s in sheet.strips if s.ticked]
    lines += [piece for curve in drawn.curves for piece in curve.pieces_mm]
    for points in lines:
        axes.plot(points[:, 0], points[:, 1], **ink)
    for name, x, y in drawn.name_places():
        size = d.NAME_MM * _POINTS_PER_MM
        axes.text(x, y, name, fontsize=size, fontweight="bold", color=d.INK, zorder=3, parse_math=False)
    foot_y = sheet.height_mm + d.FOOT_BELOW_MM
    axes.text(0, foot_y, drawn.foot, fontsize=d.FOOT_MM * _POINTS_PER_MM, color=d.QUIET_INK, parse_math=False)
    written = io.BytesIO()
    FigureCanvasAgg(figure).print_png(written, metadata={"Software": None})
    return written.getvalue()
