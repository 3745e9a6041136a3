"""Where the beats of a recording are and where P, QRS and T of its average beat begin and end."""

from dataclasses import dataclass, replace

import numpy as np

from hubert_ecg.ecg.average_beat import AverageBeat, average_beat, relevelled
from hubert_ecg.ecg.intervals import Wave, echo, p_wave, principal, qrs_bounds, steadiness, t_wave
from hubert_ecg.ecg.quality import find_problems
from hubert_ecg.ecg.r_peaks import WORK_RATE_HZ, Beats, WorkingLeads, find_beats, working_leads
from hubert_ecg.ecg.recording import Recording

_LEAST_T = 0.04
"""A T wave is at least this part of the QRS in height."""
_LEAST_P = 0.02
_LEAST_STEADINESS = 0.6
"""P waves come at the same time and in the same shape before each QRS; fibrillation does not (median 0.2)."""
_IRREGULAR_RR = 0.1
_LEAST_STEADINESS_IRREGULAR = 0.85
_LARGEST_ECHO = 0.72
"""What looks more than this like the P wave 150-300 ms away is the next wave of a flutter: so in 90 % of simulated
flutter, and in 4 % of normal PTB-XL recordings, which lose their PR to it."""
_FAST_BPM = 90.0
_LARGEST_ECHO_FAST = 0.76
"""The same above 90 beats per minute, where the T wave lies there: 75 % of simulated flutter, 15 % of sinus
tachycardia."""
_TOO_FAST_BPM = 130.0
"""Above this T and P waves overlap, and flutter with 2:1 conduction looks like sinus rhythm."""


@dataclass(frozen=True, kw_only=True)
class Delineation:
    """What was found, as far as it was."""

    leads: WorkingLeads
    """May hold no lead."""
    beats: Beats
    beat: AverageBeat | None = None
    """None where fewer than three beats share a shape."""
    qrs: tuple[int, int] | None = None
    """(onset, offset), samples of the average beat."""
    p: Wave | None = None
    """Only a P wave that belongs to the QRS: none in fibrillation and flutter."""
    t: Wave | None = None
    no_p_reason: str | None = None
    """Why there is no `p`."""


def delineate(recording: Recording) -> Delineation:
    """Find beats, average them and delineate the average. Leads that `find_problems` calls unusable are left out.

    Never raises for a bad signal.
    """
    leads = working_leads(_usable(recording))
    beats = find_beats(leads)
    beat = average_beat(leads, beats.peaks) if leads.names else None
    qrs = None if beat is None else qrs_bounds(beat.samples, beat.centre)
    if beat is None or qrs is None:
        return Delineation(leads=leads, beats=beats, beat=beat, no_p_reason="no average beat")
    beat = relevelled(beat, leads, qrs[0])
    qrs = qrs_bounds(beat.samples, beat.centre) or qrs
    t = find_t(beat, beat.samples, qrs)
    p = find_p(beat, beat.samples, qrs, t)
    reason = "no P wave before the QRS" if p is None else _why_not_sinus(beats, beat, qrs, p)
    return Delineation(leads=leads, beats=beats, beat=beat, qrs=qrs, p=None if reason else p, t=t, no_p_reason=reason)


def _usable(recording: Recording) -> Recording:
    bad = {finding.lead for finding in find_problems(recording) if finding.severity == "severe" and finding.lead}
    keep = [k for k, name in enumerate(recording.lead_names) if name not in bad]
    names = tuple(recording.lead_names[k] for k in keep)
    return replace(recording, samples=recording.samples[keep], lead_names=names)


def find_t(beat: AverageBeat, samples: np.ndarray, qrs: tuple[int, int]) -> Wave | None:
    """The T wave between the J point and where the next P wave may begin, if it stands out against the QRS."""
    rr = beat.rr_s * WORK_RATE_HZ
    stop = int(min(max(beat.centre + 0.62 * rr, qrs[1] + 75), beat.centre + 320))
    return _high_enough(t_wave(samples, start=qrs[1] + 15, stop=stop), samples, qrs, _LEAST_T)


def find_p(beat: AverageBeat, samples: np.ndarray, qrs: tuple[int, int], t: Wave | None) -> Wave | None:
    """The P wave within 380 ms before the QRS and after the T wave of the beat before, if it stands out."""
    start = max(qrs[0] - 190, 0)
    if t is not None:
        start = int(np.clip(t.edge - beat.rr_s * WORK_RATE_HZ + 5, start, qrs[0] - 40))
    return _high_enough(p_wave(samples, start=start, stop=qrs[0] - 5), samples, qrs, _LEAST_P)


def _high_enough(wave: Wave | None, samples: np.ndarray, qrs: tuple[int, int], least: float) -> Wave | None:
    if wave is None:
        return None
    qrs_height = np.ptp(principal(samples, *qrs)[qrs[0] : qrs[1]])
    return wave if wave.height >= least * qrs_height else None


def _why_not_sinus(beats: Beats, beat: AverageBeat, qrs: tuple[int, int], p: Wave) -> str | None:
    """Why the wave before the QRS is not a P wave that conducts; None if it is one."""
    steady = steadiness(beat.members, max(int(p.edge) - 5, 0), qrs[0] - 5)
    irregular = np.median(np.abs(np.diff(beats.rr_s))) > _IRREGULAR_RR * np.median(beats.rr_s)
    if not steady >= (_LEAST_STEADINESS_IRREGULAR if irregular else _LEAST_STEADINESS):
        return "no P wave that is the same before each QRS (fibrillation, noise or a block)"
    rate_bpm = 60 / float(beats.rr_s.mean())
    if rate_bpm > _TOO_FAST_BPM:
        return f"at {rate_bpm:.0f} bpm the P wave cannot be told from the T wave or a flutter wave"
    if echo(beat.samples, p, qrs[0]) > (_LARGEST_ECHO_FAST if rate_bpm > _FAST_BPM else _LARGEST_ECHO):
        return "waves like the P wave follow one another (flutter, or P on T)"
    return None
