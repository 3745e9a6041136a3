"""The ECG on paper with its controls: speed, gain, layout, filter, zoom and calipers, what spoke for a condition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import streamlit as st

from serve.diagnosis import markup
from serve.diagnosis.service import Answer, explain
from serve.diagnosis.session import Session
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.shown_leads import ShownLeads
from serve.diagnosis.trouble import Trouble
from serve.diagnosis.trouble_view import show_trouble
from serve.paper.figure import FIGURE_CONFIG, calliper_of, paper_figure
from serve.paper.layout import Layout, PaperStyle, sheet_starts_s
from serve.paper.svg import paper_svg
from serve.report.text import capital
from serve.schemas import ExplanationOut

Value = TypeVar("Value", int, Layout)

_SPEEDS = {25: "25 mm/s", 50: "50 mm/s"}
_GAINS = {5: "5 mm/mV", 10: "10 mm/mV", 20: "20 mm/mV"}
_LAYOUTS: dict[Layout, str] = {"3x4": "3×4 + rhythm", "6x2": "6×2", "12x1": "12×1"}
_NOTHING = "nothing"
FOR_COLOUR, AGAINST_COLOUR = "#d55e00", "#0072b2"
"""Of the paper's attributions."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is on the paper."""

    style: PaperStyle
    start_s: float
    zoom: bool
    true_size: bool
    label: str | None
    """The condition that is explained."""


def paper_section(held: Session, settings: AppSettings, number: int, shown: ShownLeads) -> Chosen:
    """Draw controls and paper; returns what is on it, which the PDF takes over."""
    with st.container(key="paper"):  # on a phone the paper comes first: see style.py
        return _controls_and_paper(held, settings, number, shown)


def _controls_and_paper(held: Session, settings: AppSettings, number: int, shown: ShownLeads) -> Chosen:
    with st.container(key="paper-controls"):
        chosen = _controls(held, number, shown)
    explanation = _explanation(held, settings, number, chosen.label) if chosen.label else None
    attributions = None if explanation is None else np.array(explanation.attributions)
    more: dict[str, Any] = {
        "start_s": chosen.start_s,
        "attributions": attributions,
        "attribution_rate_hz": explanation.sampling_rate_hz if explanation else 100.0,
        "findings": held.prediction(number).findings,
    }
    if chosen.zoom:
        figure = paper_figure(shown.samples_mv, shown.sampling_rate_hz, shown.names, chosen.style, **more)
        event = st.plotly_chart(
            figure,
            key=f"zoom-{number}",
            config=FIGURE_CONFIG | {"displayModeBar": True},
            on_select="rerun",
            selection_mode=("points", "box"),
        )
        measured = calliper_of(event.selection) if event else None
        st.caption(
            f"Measured: {measured}."
            if measured
            else "Drag to zoom, double-click to return. To measure, take the line "
            "tool or the box at the top right of the ECG; pointing at the curve shows time and voltage."
        )
    else:
        svg = paper_svg(shown.samples_mv, shown.sampling_rate_hz, shown.names, chosen.style, **more)
        st.html(markup.paper(svg, shown.names, fit=not chosen.true_size))
    if explanation is not None:
        _legend(held, number, explanation)
    if shown.left_out:
        st.caption(f"Also in the file, not drawn: {', '.join(shown.left_out)}.")
    return chosen


def _controls(held: Session, number: int, shown: ShownLeads) -> Chosen:
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        speed = _one_of("Paper speed", _SPEEDS, 25, key="speed")
        gain = _one_of("Gain", _GAINS, 10, key="gain")
        layout = _one_of("Layout", _LAYOUTS, "3x4", key="layout")
        label = _label_choice(held, number, shown)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        filtered = st.toggle("Filter", key="filtered", help="Takes off wander below 0.5 Hz and noise above 40 Hz. "
                             "Off: the ECG as it was recorded.")  # fmt: skip
        zoom = st.toggle("Zoom and calipers", key="zoom", persist_state="session")
        true_size = not zoom and st.toggle("True size", key="true-size", help="25 mm are 25 mm on a calibrated screen.")
        start_s = _sheet_choice(shown)
    style = PaperStyle(speed_mm_s=speed, gain_mm_mv=gain, layout=layout, filtered=filtered)
    return Chosen(style=style, start_s=start_s, zoom=zoom, true_size=true_size, label=label)


def _one_of(title: str, words: Mapping[Value, str], default: Value, *, key: str) -> Value:
    """A row of buttons, of which one is always chosen and stays so while the session lasts."""
    chosen = st.segmented_control(
        title,
        list(words),
        format_func=words.__getitem__,
        default=default,
        key=key,
        required=True,
        persist_state="session",
    )
    return default if chosen is None else chosen


def _label_choice(held: Session, number: int, shown: ShownLeads) -> str | None:
    outcome = held.outcomes.get(number)
    if not isinstance(outcome, Answer) or not shown.standard:
        return None
    titles = {_NOTHING: "Nothing"} | {each.label: capital(each.title) for each in outcome.prediction.labels}
    label = st.selectbox(
        "Show what spoke for", list(titles), format_func=lambda name: titles.get(name, name), key=f"explain-{number}",
        width=300,
    )  # fmt: skip
    return None if label in (None, _NOTHING) else label


def _sheet_choice(shown: ShownLeads) -> float:
    """Where the sheet begins, for recordings of more than one."""
    starts = sheet_starts_s(shown.samples_mv.shape[1] / shown.sampling_rate_hz)
    if len(starts) == 1:
        return 0.0
    page = st.number_input(f"Sheet (1 to {len(starts)})", 1, len(starts), 1, key="sheet", width=160)
    return starts[int(page) - 1]


def _explanation(held: Session, settings: AppSettings, number: int, label: str) -> ExplanationOut | None:
    """What was answered before, or is asked now; None where there is no answer, which the page then says."""
    if (number, label) not in held.explanations:
        with st.spinner("Asking the model what it looked at; this takes some seconds.", show_time=True):
            found = explain(settings, held.ecgs[number].recording, label, model=held.model)
        held.explanations[number, label] = found
    outcome = held.explanations[number, label]
    if not isinstance(outcome, Trouble):
        return outcome
    if show_trouble(outcome, key=f"again-explain-{number}"):
        del held.explanations[number, label]
        st.rerun()
    return None


def _legend(held: Session, number: int, explanation: ExplanationOut) -> None:
    title = next(each.title for each in held.prediction(number).labels if each.label == explanation.label)
    starts = ", ".join(f"{start:.1f} s" for start in explanation.crop_starts_s)
    st.html(
        f'<p class="hx-key"><b style="background:{FOR_COLOUR}"></b>speaks for {title} &nbsp; '
        f'<b style="background:{AGAINST_COLOUR}"></b>speaks against it. Integrated gradients over the 5 s windows that '
        f"the model read (from {starts}); the deeper the colour, the more it mattered. It shows what moved the model, "
        "not what is true.</p>"
    )
