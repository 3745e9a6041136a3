"""The stretch of each beat from P onset to T offset, for an attention mask that looks at beats only."""

from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.delineation import Delineation, delineate
from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.r_peaks import WORK_RATE_HZ
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError

_TYPICAL_QT_S = 0.42
"""QT at an RR of 1 s, on the long side, for beats whose T wave was not found."""
_LONGEST_QT = 0.7
"""No QT is longer than this part of the RR."""


@dataclass(frozen=True, kw_only=True)
class BeatSpanConfig:
    """What of a beat is kept."""

    margin_s: float = 0.02
    """Seconds added before and after each beat."""
    without_p_s: float = 0.06
    """Seconds before the QRS at which a beat without a P wave begins."""

    def __post_init__(self) -> None:
        for name in ("margin_s", "without_p_s"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: wanted 0 to 1 s, got {getattr(self, name)}")


DEFAULT_SPANS = BeatSpanConfig()


def beat_spans(
    recording: Recording, *, config: BeatSpanConfig = DEFAULT_SPANS
) -> tuple[np.ndarray | None, tuple[Finding, ...]]:
    """[span, 2] float32 seconds from P onset to T offset of each beat, in order, overlapping ones merged, within the
    recording; and no finding.

    Beats are found by NeuroKit2 and over all leads (`r_peaks`); how far each reaches is read off the average beat, so
    that one noisy beat is not cut short. Works at any sampling rate from 50 Hz. Without three beats of one shape:
    None and a finding of kind `beats not found`.
    """
    found = delineate(recording)
    reach = _reach_s(found, config)
    if reach is None:
        num = int(found.beats.peaks.size)
        detail = f"Wanted three beats of one shape in {len(found.leads.names)} usable leads, found {num} beats in all."
        return None, (Finding(kind="beats not found", severity="warning", detail=detail),)
    middles = found.beats.peaks / WORK_RATE_HZ
    starts = np.clip(middles - reach[0], 0.0, recording.duration_s)
    stops = np.clip(middles + reach[1], 0.0, recording.duration_s)
    return _merged(starts, stops).astype(np.float32), ()


def _reach_s(found: Delineation, config: BeatSpanConfig) -> tuple[float, float] | None:
    """(before, after) the middle of the QRS, seconds; None where the average beat could not be read."""
    if found.beat is None or found.qrs is None:
        return None
    onset_s = (found.beat.centre - found.qrs[0]) / WORK_RATE_HZ
    p_onset = None if found.p is None else found.p.edge
    before = onset_s + config.without_p_s if p_onset is None else (found.beat.centre - p_onset) / WORK_RATE_HZ
    if found.t is None:
        rr_s = found.beat.rr_s
        after = min(_TYPICAL_QT_S * rr_s ** (1 / 3), _LONGEST_QT * rr_s) - onset_s
    else:
        after = (found.t.edge - found.beat.centre) / WORK_RATE_HZ
    return before + config.margin_s, after + config.margin_s


def _merged(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """[span, 2] without overlaps. `starts` and `stops` are ascending, because all beats reach equally far."""
    opens = np.concatenate([[True], starts[1:] > stops[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return np.stack([starts[opens], stops[closes]], axis=1)
