"""What was found in the signal, as Plotly figures: one lead with its waves, the heart rate, the average beat per lead.

The curve of a lead is cleaned by NeuroKit2, which also finds the R peaks that each lead votes with. Where P, QRS and T
lie is read off the average beat by `hubert_ecg.ecg.delineation` and not by NeuroKit2's own delineation, which was off
by tens of milliseconds (`hubert_ecg.ecg.measure`): a mark here is the one that the measurements rest on.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from hubert_ecg.ecg.delineation import Delineation
from hubert_ecg.ecg.r_peaks import WORK_RATE_HZ
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import InputError
from serve.paper.drawing import INK, LARGE_LINES, PAPER, QUIET_INK, SMALL_LINES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

WAVE_COLOURS = {"P": "#009e73", "QRS": "#0072b2", "T": "#cc79a7"}
"""Okabe and Ito's palette."""
_RAW = "#b8aeae"
_COLUMNS = 4
_SHORTEST_S = 1.5
"""NeuroKit2 does not clean what is shorter."""


def lead_view(recording: Recording, lead: str, found: Delineation) -> "Figure":
    """One lead as recorded and as NeuroKit2 cleans it, with P, QRS and T of each beat of the prevailing shape.

    `found` is what `delineate` found in the recording; beats of another shape have their R marked only. Raises
    InputError where the recording does not hold the lead.
    """
    if lead not in recording.lead_names:
        raise InputError(f"lead to show: wanted one of {list(recording.lead_names)}, got {lead!r}; choose another")
    import plotly.graph_objects as go

    raw = np.asarray(recording.samples[recording.lead_names.index(lead)], np.float64)
    known = np.isfinite(raw)
    if not known.any():
        return _nothing(f"Nothing was recorded in lead {lead}.")
    raw = raw - np.median(raw[known])
    times_s = np.arange(raw.size) / recording.sampling_rate_hz
    cleaned = _cleaned(raw, known, recording.sampling_rate_hz)
    figure = go.Figure(
        [
            {**_line(times_s, raw, "as recorded", _RAW, 1.0), "visible": "legendonly"},
            _line(times_s, cleaned, "cleaned", INK, 1.2),
            _r_marks(times_s, cleaned, found),
        ]
    )
    for name, start, stop in _waves(found):
        figure.add_trace(_legend_entry(name))
        for middle in found.beat.peaks if found.beat is not None else ():
            first, last = ((middle + edge) / WORK_RATE_HZ for edge in (start, stop))
            if last > 0 and first < recording.duration_s:
                figure.add_shape(_band(name, max(first, 0.0), min(last, recording.duration_s)))
    figure.update_layout(
        **_look(f"Lead {lead}"),
        xaxis=_axis("seconds", range=[0, min(recording.duration_s, 10.0)]),
        yaxis=_axis("mV"),
        dragmode="pan",
    )
    return figure


def heart_rate_view(found: Delineation) -> "Figure":
    """60 over the distance of each beat from the one before it, at the time of the beat, and their mean."""
    import plotly.graph_objects as go

    rr_s = found.beats.rr_s
    if rr_s.size < 2:
        return _nothing("Fewer than three beats were found: no heart rate to show.")
    times_s, rates = found.beats.peaks[1:] / WORK_RATE_HZ, 60 / rr_s
    mean = 60 / float(rr_s.mean())
    trace = {
        **_line(times_s, rates, "beat to beat", WAVE_COLOURS["QRS"], 1.5),
        "mode": "lines+markers",
        "hovertemplate": "%{x:.2f} s: %{y:.0f}/min<extra></extra>",
    }
    figure = go.Figure([trace])
    figure.add_hline(y=mean, line={"dash": "dot", "color": QUIET_INK}, annotation_text=f"mean {mean:.0f}/min")
    low, high = min(40.0, float(rates.min()) - 5), max(120.0, float(rates.max()) + 5)
    figure.update_layout(**_look("Heart rate"), xaxis=_axis("seconds"), yaxis=_axis("per minute", range=[low, high]))
    return figure


def average_beat_view(found: Delineation) -> "Figure":
    """The average beat of each usable lead, all on one scale, P, QRS and T shaded where all leads together have them.

    Thin lines are the beats that it was made of.
    """
    if found.beat is None:
        return _nothing("Fewer than three beats share a shape: there is no average beat.")
    from plotly.subplots import make_subplots

    beat, names = found.beat, found.leads.names
    rows = -(-len(names) // _COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=min(len(names), _COLUMNS),
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=[f"<b>{name}</b>" for name in names],
        horizontal_spacing=0.015,
        vertical_spacing=0.16 / rows,
    )
    times_ms = (np.arange(beat.samples.shape[1]) - beat.centre) * 1000 / WORK_RATE_HZ
    shown = np.abs(times_ms) <= 550
    for place, name in enumerate(names):
        where = {"row": place // _COLUMNS + 1, "col": place % _COLUMNS + 1}
        for member in beat.members[:, place, :]:
            faint = {"color": _RAW, "width": 0.6}
            figure.add_scatter(x=times_ms[shown], y=member[shown], mode="lines", line=faint, hoverinfo="skip", **where)
        average = {"x": times_ms[shown], "y": beat.samples[place, shown], "line": {"color": INK, "width": 1.6}}
        figure.add_scatter(
            **average, mode="lines", hovertemplate="%{x:.0f} ms: %{y:.2f} mV<extra>" + name + "</extra>", **where
        )
        for wave, start, stop in _waves(found):
            edges = {"x0": start * 1000 / WORK_RATE_HZ, "x1": stop * 1000 / WORK_RATE_HZ}
            figure.add_vrect(**edges, fillcolor=WAVE_COLOURS[wave], opacity=0.15, line_width=0, layer="below", **where)
    figure.update_layout(_look(f"Average of {len(beat.peaks)} beats"))
    figure.update_layout(height=150 * rows + 90, showlegend=False)
    figure.update_xaxes(**_axis("", dtick=200))
    figure.update_yaxes(**_axis(""))
    return figure


def _cleaned(row: np.ndarray, known: np.ndarray, rate_hz: float) -> np.ndarray:
    """[time] as NeuroKit2 cleans it; gaps bridged for it and gaps again afterwards."""
    import neurokit2

    places = np.arange(row.size)
    bridged = np.interp(places, places[known], row[known])
    if row.size < _SHORTEST_S * rate_hz:
        return row
    cleaned = np.array(neurokit2.ecg_clean(bridged, sampling_rate=round(rate_hz)), np.float64)
    cleaned[~known] = np.nan
    return cleaned


def _waves(found: Delineation) -> list[tuple[str, float, float]]:
    """(name, start, stop) of what was found in the average beat, samples from the middle of its QRS.

    P and T are as long on the side towards the QRS as on the other, where alone the tangent is taken, but never reach
    into it.
    """
    if found.beat is None or found.qrs is None:
        return []
    centre, (onset, offset) = found.beat.centre, found.qrs
    waves = [("QRS", float(onset - centre), float(offset - centre))]
    if found.p is not None:
        waves.append(("P", found.p.edge - centre, min(2 * found.p.peak - found.p.edge, onset) - centre))
    if found.t is not None:
        waves.append(("T", max(2 * found.t.peak - found.t.edge, offset) - centre, found.t.edge - centre))
    return sorted(waves, key=lambda wave: wave[1])


def _r_marks(times_s: np.ndarray, values: np.ndarray, found: Delineation) -> dict[str, Any]:
    peaks_s = found.beats.peaks / WORK_RATE_HZ
    heights = np.interp(peaks_s, times_s, np.nan_to_num(values))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "middle of a QRS",
        "x": peaks_s,
        "y": heights,
        "marker": {"color": WAVE_COLOURS["QRS"], "size": 7, "symbol": "triangle-down"},
        "hovertemplate": "beat at %{x:.3f} s<extra></extra>",
    }


def _line(x: np.ndarray, y: np.ndarray, name: str, colour: str, width: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": colour, "width": width},
        "hovertemplate": "%{x:.3f} s: %{y:.2f} mV<extra></extra>",
    }


def _legend_entry(wave: str) -> dict[str, Any]:
    marker = {"color": WAVE_COLOURS[wave], "size": 12, "symbol": "square", "opacity": 0.5}
    return {"type": "scatter", "mode": "markers", "name": wave, "x": [None], "y": [None], "marker": marker}


def _band(wave: str, first_s: float, last_s: float) -> dict[str, Any]:
    return {
        "type": "rect",
        "layer": "below",
        "x0": first_s,
        "x1": last_s,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "fillcolor": WAVE_COLOURS[wave],
        "opacity": 0.18,
        "line": {"width": 0},
    }


def _look(title: str) -> dict[str, Any]:
    return {
        "template": "none",
        "title": {"text": title, "font": {"size": 15, "color": INK}},
        "plot_bgcolor": PAPER,
        "height": 320,
        "margin": {"l": 50, "r": 10, "t": 60, "b": 45},
        "font": {"color": INK},
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
    }


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "gridcolor": LARGE_LINES,
        "zerolinecolor": LARGE_LINES,
        "minor": {"showgrid": True, "gridcolor": SMALL_LINES},
        **more,
    }


def _nothing(reason: str) -> "Figure":
    """An empty figure that says why it is."""
    import plotly.graph_objects as go

    figure = go.Figure()
    middle = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 14}}
    figure.update_layout(template="none", height=160, annotations=[{"text": reason, **middle}])
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
