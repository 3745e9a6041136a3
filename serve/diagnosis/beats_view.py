"""The beats: a cleaned lead with P, QRS and T marked, the heart rate over time, and the average beat of each lead."""

import streamlit as st

from hubert_ecg.ecg.delineation import delineate
from hubert_ecg.ecg.recording import Recording
from serve.paper.views import average_beat_view, heart_rate_view, lead_view

_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
_NAMES = ("P, QRS and T in a lead", "Heart rate", "Average beats")


def beats_section(recording: Recording, number: int) -> None:
    """Draw the three views; `recording` holds the leads that are on the paper."""
    found = delineate(recording)
    waves, rate, beats = st.tabs(_NAMES, key="beat-tabs", on_change="rerun")
    if waves.open:
        with waves:
            names = list(recording.lead_names)
            first = names.index("II") if "II" in names else 0
            lead = st.selectbox("Lead", names, index=first, key=f"lead-{number}", width=160)
            st.plotly_chart(lead_view(recording, lead, found), config=_CONFIG, key=f"waves-{number}")
    if rate.open:
        with rate:
            st.plotly_chart(heart_rate_view(found), config=_CONFIG, key=f"rate-{number}")
    if beats.open:
        with beats:
            st.plotly_chart(average_beat_view(found), config=_CONFIG, key=f"average-{number}")
