"""A 12-lead ECG on its grid, for reports: two columns of six leads, findings shaded where they are."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recording import STANDARD_LEADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROWS, _COLUMNS = 6, 2
_TRACE, _FINE, _BOLD = "#1A1A1A", "#F6D5D5", "#E8A6A6"
_SHADES = {"severe": "#D55E00", "warning": "#E69F00", "info": "#56B4E9"}
_LEAD_HEIGHT_MV = 3.0
_SMALL_MV, _LARGE_MV, _SMALL_S, _LARGE_S = 0.1, 0.5, 0.04, 0.2


def ecg_png(
    samples_mv: np.ndarray, sampling_rate_hz: float, *, title: str = "", findings: Sequence[Finding] = ()
) -> bytes:
    """A PNG of samples [12, time] in mV, leads in standard order: 0.2 s and 0.5 mV per large square, as on paper.

    A lead that is larger than its row is drawn smaller, and says by how much. Samples that are not numbers leave gaps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seconds = samples_mv.shape[1] / sampling_rate_hz
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(_ROWS, _COLUMNS, sharex=True, gridspec_kw={"hspace": 0, "wspace": 0.02})
    times_s = np.arange(samples_mv.shape[1]) / sampling_rate_hz
    for place, lead in enumerate(STANDARD_LEADS):
        axes = panels[place % _ROWS, place // _ROWS]
        trace = samples_mv[place] - np.nanmedian(samples_mv[place]) if np.isfinite(samples_mv[place]).any() else None
        _draw_grid(axes, seconds)
        shrink = 1.0 if trace is None else max(1.0, float(np.nanmax(np.abs(trace))) / (_LEAD_HEIGHT_MV / 2))
        if trace is not None:
            axes.plot(times_s, trace / shrink, color=_TRACE, linewidth=0.7)
        note = f"{lead}  (1/{shrink:.1f})" if shrink > 1 else lead
        axes.text(0.02, 0.9, note, transform=axes.transAxes, fontsize=9, fontweight="bold", va="top")
        for finding in findings:
            if finding.lead in (lead, None) and finding.severity != "info":
                end_s = seconds if finding.end_s is None else finding.end_s
                axes.axvspan(finding.start_s or 0.0, end_s, color=_SHADES[finding.severity], alpha=0.18, linewidth=0)
    if title:
        figure.suptitle(title, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()


def _draw_grid(axes: "Axes", seconds: float) -> None:
    half = _LEAD_HEIGHT_MV / 2
    for step_s, step_mv, colour, width in ((_SMALL_S, _SMALL_MV, _FINE, 0.3), (_LARGE_S, _LARGE_MV, _BOLD, 0.5)):
        axes.vlines(np.arange(0, seconds, step_s), -half, half, color=colour, linewidth=width)
        axes.hlines(np.arange(-half, half + step_mv / 2, step_mv), 0, seconds, color=colour, linewidth=width)
    axes.set(xlim=(0, seconds), ylim=(-half, half), xticks=[], yticks=[])
