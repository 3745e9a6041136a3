"""Small bar charts for reports, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#7F6A00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
SEVERITY_COLOURS = {"info": "#56B4E9", "warning": "#E69F00", "severe": "#D55E00"}


def stacked_bars_png(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    colours: Mapping[str, str] | None = None,
) -> bytes:
    """Horizontal bars, one per name from the top down, each the sum of its series; the sum stands at its end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.9 + 0.28 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    left = np.zeros(len(names))
    places = np.arange(len(names))
    for number, (name, values) in enumerate(series.items()):
        colour = (colours or {}).get(name, PALETTE[number % len(PALETTE)])
        axes.barh(places, values, left=left, color=colour, label=name, height=0.72)
        left += np.asarray(values, float)
    for place, total in enumerate(left):
        axes.text(total, place, f" {total:,.0f}", va="center", fontsize=8)
    axes.set(yticks=places, yticklabels=list(names), xlabel=xlabel, xlim=(0, max(1.0, left.max(initial=0)) * 1.15))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _png(figure)


def histogram_rows_png(names: Sequence[str], counts: np.ndarray, edges: np.ndarray, *, xlabel: str) -> bytes:
    """Histograms [name, bin] as one heat map, darker where there is more, on a logarithmic axis given by its edges."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.9 + 0.26 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), shares, cmap="Blues", vmin=0)
    axes.set(xscale="log", xlabel=xlabel, yticks=np.arange(len(names)) + 0.5, yticklabels=list(names))
    axes.set_xticks(ticks := [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.invert_yaxis()
    figure.colorbar(mesh, ax=axes, label="share of recordings", format=lambda value, _: f"{value:.0%}")
    return _png(figure)


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
