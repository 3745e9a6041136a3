"""Sample ECGs at a click: one simulated recording for each of the six conditions."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import CONDITION_TITLES, simulate_condition

SEEDS: Mapping[str, int] = MappingProxyType({"NORM": 7, "AFIB": 1, "AFLT": 1, "CLBBB": 2, "CRBBB": 18, "1AVB": 0})
"""Of patients whose ECG shows the condition as textbooks draw it: flutter conducted 4 to 1, a PR of 246 ms, say."""


def sample(condition: str) -> Recording:
    """10 s at 500 Hz with the noise of an ordinary recorder; the same at every call."""
    recording, _ = simulate_condition([condition], seed=SEEDS[condition])
    return replace(recording, record_id="", patient_id=None)


def sample_title(condition: str) -> str:
    """`Atrial fibrillation (simulated)`."""
    title = CONDITION_TITLES[condition]
    return f"{title[0].upper()}{title[1:]} (simulated)"
