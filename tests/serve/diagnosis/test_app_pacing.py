"""What a file says of a pacemaker is sent with the numbers, which do not say it."""

from dataclasses import replace

import pytest

from hubert_ecg.ecg.finding import PACING_SPIKES, STATED_PACING, Finding
from serve.diagnosis.samples import sample
from serve.diagnosis.session import Session


@pytest.mark.parametrize(
    ("kind", "paced"), [(STATED_PACING, True), (PACING_SPIKES, True), ("inconsistent gains", False), (None, False)]
)
def test_an_ecg_whose_file_states_pacing_is_paced(kind: str | None, paced: bool) -> None:
    recording = sample("NORM")
    if kind is not None:
        recording = replace(recording, findings=(Finding(kind=kind, severity="info", detail="Said so."),))
    held = Session()
    assert held.ecgs[held.add("r", recording)].paced is paced
