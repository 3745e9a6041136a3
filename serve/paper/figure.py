"""An ECG on paper as an interactive Plotly figure, with callipers.

Its axes are milliseconds and millivolts, bound together so that squares stay square at any zoom. Measured are lines
that are drawn into it (the figure labels them itself), two points or a box that are selected (`calliper_of` reads what
Streamlit sends back), and single points by pointing at them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hubert_ecg.evaluation.ecg_shading import Noticed
from serve.paper import drawing as d
from serve.paper.layout import DEFAULT_STYLE, LARGE_MM, SMALL_MM, TICK_MM, PaperStyle
from serve.paper.png import paper_png

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["FIGURE_CONFIG", "Calliper", "calliper_of", "paper_figure", "paper_png"]

FIGURE_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "scrollZoom": True,
    "modeBarButtonsToAdd": ["drawline", "eraseshape"],
    "modeBarButtonsToRemove": ["lasso2d", "autoScale2d"],
    "doubleClick": "reset",
}
"""What the figure needs besides itself: `st.plotly_chart(figure, config=FIGURE_CONFIG)`."""
_POINTS_PER_S = 250.0
_PX_PER_MM = 96 / 25.4
_MARGIN_PX = {"l": 4, "r": 4, "t": 30, "b": 28}
_CALLIPER = "#005a9c"
_MEASURED = "Δ %{dx:.0f} ms, %{dy:.2f} mV"


@dataclass(frozen=True, kw_only=True)
class Calliper:
    """The distance between two points of the figure."""

    milliseconds: float
    """0 or more."""
    millivolts: float
    """The later point minus the earlier one; of a box, its height."""

    @property
    def per_minute(self) -> float | None:
        """The rate of what comes once in this time; None where no time lies between."""
        return 60_000 / self.milliseconds if self.milliseconds > 0 else None

    def __str__(self) -> str:
        rate = "" if self.per_minute is None else f", {self.per_minute:.0f}/min"
        return f"Δ {self.milliseconds:.0f} ms{rate}, {self.millivolts:.2f} mV"


def calliper_of(selection: Mapping[str, Any]) -> Calliper | None:
    """The distance that a selection of the figure spans: the last box's sides, or its last two points.

    `selection` is `st.plotly_chart(..., on_select="rerun").selection`. None where neither is in it.
    """
    if boxes := selection.get("box"):
        (x0, x1), (y0, y1) = boxes[-1]["x"], boxes[-1]["y"]
        return Calliper(milliseconds=abs(x1 - x0), millivolts=abs(y1 - y0))
    if len(points := selection.get("points") or ()) >= 2:
        first, last = sorted(points[-2:], key=lambda point: point["x"])
        return Calliper(milliseconds=last["x"] - first["x"], millivolts=last["y"] - first["y"])
    return None


def paper_figure(
    samples_mv: np.ndarray,
    sampling_rate_hz: float,
    leads: Sequence[str],
    style: PaperStyle = DEFAULT_STYLE,
    *,
    start_s: float = 0.0,
    attributions: np.ndarray | None = None,
    attribution_rate_hz: float = 100.0,
    findings: Sequence[Noticed] = (),
    measuring: bool = False,
) -> "Figure":
    """The sheet that `paper_svg` draws, from the same arguments, to zoom into and to measure on.

    Pointing at a curve tells the time in the recording and the voltage from the lead's median. Dragging zooms, or with
    `measuring` spans a box, which `calliper_of` reads.
    """
    import plotly.graph_objects as go

    (drawn,) = d.drawings(
        samples_mv,
        sampling_rate_hz,
        leads,
        style,
        start_s=start_s,
        attributions=attributions,
        attribution_rate_hz=attribution_rate_hz,
        findings=findings,
        most_points_per_s=_POINTS_PER_S,
    )
    sheet = drawn.sheet
    axes = _Axes(style)
    figure = go.Figure(data=[_pulses(drawn, axes), *[_trace(curve, axes) for curve in drawn.curves]])
    figure.update_layout(
        template="none",
        width=round(sheet.width_mm * _PX_PER_MM) + _MARGIN_PX["l"] + _MARGIN_PX["r"],
        height=round(sheet.height_mm * _PX_PER_MM) + _MARGIN_PX["t"] + _MARGIN_PX["b"],
        margin=_MARGIN_PX,
        plot_bgcolor=d.PAPER,
        showlegend=False,
        hovermode="closest",
        dragmode="select" if measuring else "zoom",
        clickmode="event+select",
        shapes=[*[_rect(patch, axes) for patch in drawn.patches], *_ticks(drawn, axes)],
        annotations=[*_names(drawn, axes), _foot(drawn.foot)],
        newshape={
            "line": {"color": _CALLIPER, "width": 1.5},
            "label": {"texttemplate": _MEASURED, "textangle": 0, "font": {"color": _CALLIPER, "size": 13}},
        },
        xaxis=_axis(axes.ms, sheet.width_mm),
        yaxis={
            **_axis(axes.mv, sheet.height_mm),
            "range": [-axes.mv(sheet.height_mm), 0],
            "scaleanchor": "x",
            "scaleratio": axes.ms(1.0) / axes.mv(1.0),
        },
    )
    return figure


@dataclass(frozen=True)
class _Axes:
    """From millimetres of the sheet to the figure's axes: ms from the grid's left edge, mV upwards from its top."""

    style: PaperStyle

    def ms(self, mm: Any) -> Any:
        return mm * 1000 / self.style.speed_mm_s

    def mv(self, mm: Any) -> Any:
        return mm / self.style.gain_mm_mv


def _axis(scale: Any, length_mm: float) -> dict[str, Any]:
    """An axis whose grid is the paper's, without labels: where 0 lies on it means nothing."""
    return {
        "range": [0, scale(length_mm)],
        "constrain": "domain",
        "showticklabels": False,
        "ticks": "",
        "zeroline": False,
        "tick0": 0,
        "dtick": scale(LARGE_MM),
        "gridcolor": d.LARGE_LINES,
        "gridwidth": 1,
        "minor": {"tick0": 0, "dtick": scale(SMALL_MM), "showgrid": True, "gridcolor": d.SMALL_LINES, "gridwidth": 0.5},
    }


def _joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """[point, 2] with a row of NaN, which a line does not cross, between pieces."""
    gap = np.full((1, 2), np.nan)
    parts = [part for piece in pieces for part in (piece, gap)]
    return np.concatenate(parts[:-1]) if parts else np.empty((0, 2))


def _trace(curve: d.Curve, axes: _Axes) -> dict[str, Any]:
    points = _joined(curve.pieces_mm)
    times_s = curve.strip.start_s + (points[:, 0] - curve.strip.x_mm) / axes.style.speed_mm_s
    volts = axes.mv(curve.strip.y_mm - points[:, 1])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": curve.strip.name,
        "x": axes.ms(points[:, 0]).astype(np.float32),
        "y": -axes.mv(points[:, 1]).astype(np.float32),
        "customdata": np.stack([times_s, volts], axis=1).astype(np.float32),
        "hovertemplate": "%{customdata[0]:.3f} s, %{customdata[1]:.2f} mV<extra>" + curve.strip.name + "</extra>",
        "line": {"color": d.INK, "width": 1.1},
    }


def _pulses(drawn: d.Drawing, axes: _Axes) -> dict[str, Any]:
    points = _joined([np.array(drawn.sheet.pulse_mm(line)) for line in drawn.sheet.lines_mm])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "calibration, 1 mV for 0.2 s",
        "x": axes.ms(points[:, 0]),
        "y": -axes.mv(points[:, 1]),
        "hovertemplate": "1 mV, 0.2 s<extra>calibration</extra>",
        "line": {"color": d.INK, "width": 1.1},
    }


def _rect(patch: d.Patch, axes: _Axes) -> dict[str, Any]:
    return {
        "type": "rect",
        "layer": "below",
        "x0": axes.ms(patch.x_mm),
        "x1": axes.ms(patch.x_mm + patch.width_mm),
        "y0": -axes.mv(patch.y_mm),
        "y1": -axes.mv(patch.y_mm + patch.height_mm),
        "fillcolor": patch.colour,
        "opacity": patch.opacity,
        "line": {"width": 0},
    }


def _ticks(drawn: d.Drawing, axes: _Axes) -> list[dict[str, Any]]:
    return [
        {
            "type": "line",
            "x0": axes.ms(strip.x_mm),
            "x1": axes.ms(strip.x_mm),
            "y0": -axes.mv(strip.y_mm - TICK_MM),
            "y1": -axes.mv(strip.y_mm + TICK_MM),
            "line": {"color": d.INK, "width": 1},
        }
        for strip in drawn.sheet.strips
        if strip.ticked
    ]


def _names(drawn: d.Drawing, axes: _Axes) -> list[dict[str, Any]]:
    return [
        {
            "text": f"<b>{name}</b>",
            "x": axes.ms(x),
            "y": -axes.mv(y),
            "xanchor": "left",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 13, "color": d.INK},
        }
        for name, x, y in drawn.name_places()
    ]


def _foot(text: str) -> dict[str, Any]:
    return {
        "text": text,
        "x": 0,
        "y": 0,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "top",
        "yshift": -4,
        "showarrow": False,
        "font": {"size": 12, "color": d.QUIET_INK},
    }
