"""One heart over one recording: its rhythm and the shapes of its beats become a dipole over time."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hubert_ecg.ecg import simulate_rhythm as rhythm
from hubert_ecg.ecg import simulate_waves as waves


@dataclass(frozen=True, kw_only=True)
class BeatingHeart:
    """The dipole and what it was made from."""

    dipole_mv: np.ndarray
    """[3, time] on Frank's axes."""
    heart_rate_bpm: float
    pr_s: float | None
    qrs_s: float
    qt_s: float
    r_peak_times_s: np.ndarray


def heart_dipole(
    heart: waves.Heart,
    *,
    conditions: frozenset[str],
    findings: frozenset[str],
    heart_rate_bpm: float,
    age_years: float,
    pr_position: float,
    streams: Callable[[str], np.random.Generator],
    breathing: rhythm.Breathing,
    times_s: np.ndarray,
    rate_hz: float,
) -> BeatingHeart:
    """All beats of a recording, and the atrial activity where there is no P.

    `pr_position` (0 to 1) places PR within its range: 122-197 ms, or 207-342 ms in first-degree AV block. `streams`
    gives a fresh generator for each of `rhythm`, `atria`, `ectopy` and `beats`.
    """
    duration_s = times_s.size / rate_hz
    has_p = not conditions & {"AFIB", "AFLT"}
    beats, atrial = _rhythm(conditions, heart_rate_bpm, age_years, streams, breathing, times_s, duration_s)
    ectopy, strengths = streams("ectopy"), streams("beats")
    often = float(ectopy.choice([0.07, 0.15, 0.35]))
    beats = rhythm.with_ectopic_beats(
        ectopy,
        beats,
        premature_atrial=often if has_p and "premature atrial beats" in findings else 0.0,
        premature_ventricular=often if "premature ventricular beats" in findings else 0.0,
        duration_s=duration_s,
    )
    pr_s = None
    if has_p:
        pr_s = 0.207 + 0.135 * pr_position**1.5 if "1AVB" in conditions else 0.122 + 0.075 * pr_position

    conduction: waves.Conduction = "CLBBB" if "CLBBB" in conditions else "CRBBB" if "CRBBB" in conditions else "normal"
    qrs = waves.qrs_pieces(heart, conduction)
    qrs_s = waves.qrs_duration_s(heart, conduction)
    qt_s = _qt_intervals(heart, beats, qrs_s)
    pieces = _all_pieces(strengths, heart, conduction, beats, qrs, qrs_s, qt_s, pr_s)
    pieces = _breathe(strengths, pieces, breathing)
    ectopic_qrs, _ = waves.ventricular_ectopic_pieces(heart, qt_s=qt_s)
    ventricular = beats.kind == waves.BeatKind.VENTRICULAR
    peaks = beats.onset_s + np.where(ventricular, waves.peak_time_s(ectopic_qrs), waves.peak_time_s(qrs))
    peaks = peaks[(peaks >= 0) & (peaks < duration_s)]
    mean_rr = np.diff(peaks if peaks.size > 1 else beats.onset_s).mean()
    return BeatingHeart(
        dipole_mv=waves.evaluate(pieces, times_s, rate_hz=rate_hz) + atrial,
        heart_rate_bpm=60 / float(mean_rr),
        pr_s=pr_s,
        qrs_s=qrs_s,
        qt_s=float(np.median(qt_s[~ventricular])),
        r_peak_times_s=peaks,
    )


def _rhythm(
    conditions: frozenset[str],
    heart_rate_bpm: float,
    age_years: float,
    streams: Callable[[str], np.random.Generator],
    breathing: rhythm.Breathing,
    times_s: np.ndarray,
    duration_s: float,
) -> tuple[rhythm.Beats, np.ndarray]:
    """The beats, and the dipole [3, time] of fibrillation or flutter (zero in sinus rhythm)."""
    rng = streams("rhythm")
    if "AFIB" in conditions:
        beats = rhythm.fibrillation_beats(rng, heart_rate_bpm=heart_rate_bpm, duration_s=duration_s)
        return beats, rhythm.fibrillatory_waves(streams("atria"), times_s)
    if "AFLT" in conditions:
        circuit = rhythm.flutter_circuit(rng, heart_rate_bpm=heart_rate_bpm)
        beats = rhythm.flutter_beats(rng, circuit=circuit, heart_rate_bpm=heart_rate_bpm, duration_s=duration_s)
        return beats, rhythm.flutter_waves(streams("atria"), times_s, circuit=circuit)
    variability = np.exp(rng.normal(np.log(0.035), 0.8)) * (1.6 - 0.012 * age_years)
    beats = rhythm.sinus_beats(
        rng,
        heart_rate_bpm=heart_rate_bpm,
        duration_s=duration_s,
        breathing=breathing,
        variability=float(np.clip(variability, 0.004, 0.2)),
    )
    return beats, np.zeros((3, times_s.size))


def _qt_intervals(heart: waves.Heart, beats: rhythm.Beats, qrs_s: float) -> np.ndarray:
    """[beat] QT by Fridericia's cube root of a mostly slow RR, longer by most of what the QRS is wider."""
    rr = 0.75 * float(np.diff(beats.onset_s).mean()) + 0.25 * beats.preceding_rr_s
    return np.minimum(heart.corrected_qt_s * rr ** (1 / 3), 0.13 + 0.5 * rr) + 0.8 * (qrs_s - 0.09)


def _all_pieces(
    rng: np.random.Generator,
    heart: waves.Heart,
    conduction: waves.Conduction,
    beats: rhythm.Beats,
    qrs: waves.Pieces,
    qrs_s: float,
    qt_s: np.ndarray,
    pr_s: float | None,
) -> waves.Pieces:
    """Every piece of every beat on the recording's clock; each beat a few per cent stronger or weaker than the next."""
    gain = 1 + 0.025 * rng.standard_normal(beats.onset_s.size)
    ventricular = beats.kind == waves.BeatKind.VENTRICULAR
    onset, strength, qt = beats.onset_s[~ventricular], gain[~ventricular], qt_s[~ventricular]
    parts = [
        qrs.at_beats(onset, strength),
        waves.t_pieces(heart, conduction, qrs, qrs_s=qrs_s, qt_s=qt).at_beats(onset, strength),
    ]
    if pr_s is not None:
        for kind in (waves.BeatKind.CONDUCTED, waves.BeatKind.ATRIAL):
            p = waves.p_pieces(heart, pr_s=pr_s, ectopic=kind == waves.BeatKind.ATRIAL)
            parts.append(p.at_beats(beats.onset_s[beats.kind == kind], gain[beats.kind == kind]))
    onset, strength, qt = beats.onset_s[ventricular], gain[ventricular], qt_s[ventricular] + 0.04
    parts += [part.at_beats(onset, strength) for part in waves.ventricular_ectopic_pieces(heart, qt_s=qt)]
    return waves.join(parts)


def _breathe(rng: np.random.Generator, pieces: waves.Pieces, breathing: rhythm.Breathing) -> waves.Pieces:
    """Respiration turns the heart in the frontal plane and changes the voltage a little."""
    chest = breathing.at(pieces.centre_s)
    angle = np.radians(rng.uniform(0.5, 5)) * chest
    x, y, z = pieces.vector_mv.T
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle), z], axis=1)
    return replace(pieces, vector_mv=turned * (1 + rng.uniform(0, 0.06) * chest)[:, None])
