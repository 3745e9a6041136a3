"""Which leads of a recording are drawn: the twelve standard ones where they are there or follow, otherwise what is."""

from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording, signed_lead, standard_12_lead
from hubert_ecg.errors import RecordingError


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownLeads:
    """The ECG as it is drawn."""

    recording: Recording
    """Unfiltered, with the leads that are drawn."""
    left_out: tuple[str, ...]
    """Further leads of the file."""

    @property
    def samples_mv(self) -> np.ndarray:
        """[lead, time] float32."""
        return self.recording.samples

    @property
    def sampling_rate_hz(self) -> float:
        return self.recording.sampling_rate_hz

    @property
    def names(self) -> tuple[str, ...]:
        return self.recording.lead_names

    @property
    def standard(self) -> bool:
        """Whether they are the twelve standard leads in their order, as explanations are."""
        return self.names == STANDARD_LEADS


def shown_leads(recording: Recording) -> ShownLeads:
    """The leads to draw; III, aVR, aVL and aVF are derived where I and II are there and V1 to V6 are complete."""
    try:
        standard = standard_12_lead(recording)
    except RecordingError:
        return ShownLeads(recording=recording, left_out=())
    left_out = tuple(name for name in recording.lead_names if signed_lead(name)[0] is None)
    return ShownLeads(recording=standard, left_out=left_out)
