"""When the simulated heart beats: sinus, fibrillation, flutter, ectopic beats; and atrial activity that has no P."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hubert_ecg.ecg.simulate_waves import BeatKind

AtrialRhythm = Literal["sinus", "fibrillation", "flutter"]

_LEAD_IN_S = 2.5
"""Beats start this long before the first sample, so that the first sample sees the tail of a T wave like any other."""
_V1_DIRECTION = np.array([-0.48, 0.15, -0.86])
"""Unit vector from the heart to electrode V1, in Frank's axes (left, down, back)."""
_FLUTTER_RANGE_HZ = (4.0, 5.8)


@dataclass(frozen=True, kw_only=True)
class Breathing:
    """Respiration, which moves heart rate, axis and baseline together."""

    rate_hz: float
    phase: float
    """Radians at time 0."""

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Chest excursion at each time, between -1 and 1."""
        return np.sin(2 * np.pi * self.rate_hz * times_s + self.phase)


@dataclass(frozen=True, kw_only=True)
class Beats:
    """Every ventricular beat that a recording can see."""

    onset_s: np.ndarray
    """[beat] QRS onsets, ascending; some lie before 0 or after the end."""
    kind: np.ndarray
    """[beat] `BeatKind` values."""

    @property
    def preceding_rr_s(self) -> np.ndarray:
        """[beat] time since the beat before; the first beat borrows the second one's."""
        rr = np.diff(self.onset_s)
        return np.concatenate([rr[:1], rr])


def sinus_beats(
    rng: np.random.Generator, *, heart_rate_bpm: float, duration_s: float, breathing: Breathing, variability: float
) -> Beats:
    """Sinus rhythm: each RR is the mean one, modulated by respiration (RSA), by a 0.1 Hz wave, and jittered by 0.4 %.

    `variability` is the RSA amplitude as a fraction of RR.
    """
    mean_rr = 60.0 / heart_rate_bpm
    low_phase, start = rng.uniform(0, 2 * np.pi), rng.uniform(0, mean_rr)
    low_depth = 0.5 * variability * rng.uniform(0.4, 1.4)
    count = int((duration_s + 2 * _LEAD_IN_S) / mean_rr * 1.6) + 4
    jitter = 0.004 * rng.standard_normal(count)
    onsets = [start - _LEAD_IN_S]
    for k in range(count):
        t = onsets[-1]
        breath = np.sin(2 * np.pi * breathing.rate_hz * t + breathing.phase)
        slow = np.sin(2 * np.pi * 0.1 * t + low_phase)
        onsets.append(t + mean_rr * (1 + variability * breath + low_depth * slow + jitter[k]))
    return _within(np.array(onsets), duration_s)


def fibrillation_beats(rng: np.random.Generator, *, heart_rate_bpm: float, duration_s: float) -> Beats:
    """Ventricular response to atrial fibrillation: an AV node with a refractory period and concealed conduction.

    Atrial impulses arrive as a renewal process of about seven per second. One that arrives in the refractory period
    may penetrate the node without crossing it and prolong the period (concealment); the first one after it conducts.
    The result is stretched to the wanted mean rate. The simplest form of the models of Cohen (1983) and Lian (2006).
    """
    mean_rr = 60.0 / heart_rate_bpm
    span = duration_s + 2 * _LEAD_IN_S
    refractory = mean_rr * rng.uniform(0.56, 0.82)
    conceal_probability, conceal_s = rng.uniform(0.1, 0.45), mean_rr * rng.uniform(0.08, 0.3)
    spacing = min(1 / 7, mean_rr / 3)
    arrivals = np.cumsum(rng.gamma(2.5, spacing / 2.5, int(2.5 * span / spacing) + 32))
    hidden, stretch = rng.random(arrivals.size), rng.exponential(1.0, arrivals.size)
    wobble = 1 + 0.12 * rng.standard_normal(arrivals.size)
    onsets, free_at, latest = [0.0], refractory, 1.15 * mean_rr
    for k, t in enumerate(arrivals):
        if t >= free_at:
            onsets.append(t)
            free_at, latest = t + refractory * max(wobble[k], 0.6), t + 1.15 * mean_rr
        elif hidden[k] < conceal_probability:
            free_at = max(free_at, min(free_at + conceal_s * stretch[k], latest))
    rr = np.diff(onsets)
    rr = np.maximum(rr * mean_rr / rr.mean(), 0.3)
    return _within(np.concatenate([[0.0], np.cumsum(rr)]) - _LEAD_IN_S, duration_s)


@dataclass(frozen=True, kw_only=True)
class FlutterCircuit:
    """A macro-reentrant atrial circuit: its rate, its phase at time 0 in cycles."""

    rate_hz: float
    phase: float


def flutter_circuit(rng: np.random.Generator, *, heart_rate_bpm: float) -> FlutterCircuit:
    """The circuit whose rate divided by 2, 3 or 4 comes to the wanted ventricular rate (240-348 per minute)."""
    rates = np.array([2, 3, 4]) * heart_rate_bpm / 60
    rate = float(rates[np.argmin(np.abs(rates - 4.9))])
    return FlutterCircuit(rate_hz=float(np.clip(rate, *_FLUTTER_RANGE_HZ)), phase=rng.uniform(0, 1))


def flutter_beats(
    rng: np.random.Generator, *, circuit: FlutterCircuit, heart_rate_bpm: float, duration_s: float
) -> Beats:
    """One beat for every 2nd to 4th flutter wave: a fixed ratio, or (in four of ten recordings) one that varies."""
    ratio = int(np.clip(round(circuit.rate_hz * 60 / heart_rate_bpm), 2, 4))
    delay = rng.uniform(0, 1)
    variable = rng.random() < 0.4
    waves = int((duration_s + 2 * _LEAD_IN_S) * circuit.rate_hz) + 8
    steps = np.full(waves, ratio)
    if variable:
        likely = np.array([[0.6, 0.15, 0.25], [0.3, 0.4, 0.3], [0.25, 0.15, 0.6]])[ratio - 2]
        steps = rng.choice([2, 3, 4], size=waves, p=likely)
    cycles = np.concatenate([[0], np.cumsum(steps)]) + delay
    wenckebach = 0.01 * rng.standard_normal(cycles.size)
    start = np.floor(-_LEAD_IN_S * circuit.rate_hz)
    return _within(np.sort((start + cycles - circuit.phase) / circuit.rate_hz + wenckebach), duration_s)


def with_ectopic_beats(
    rng: np.random.Generator, beats: Beats, *, premature_atrial: float, premature_ventricular: float, duration_s: float
) -> Beats:
    """The same rhythm with premature beats, each beat inside the recording with the given probability.

    A premature atrial beat resets the sinus node, so that all that follows moves forward; a ventricular one does not,
    so that a compensatory pause follows.
    """
    onset, kind = beats.onset_s.copy(), beats.kind.copy()
    draws, prematurity = rng.random(onset.size), rng.uniform(0.55, 0.82, onset.size)
    for k in range(2, onset.size - 1):
        if not 0 <= onset[k] < duration_s or kind[k - 1] != BeatKind.CONDUCTED:
            continue
        rr = onset[k] - onset[k - 1]
        early = rr - max(rr * prematurity[k], 0.32)
        if early <= 0:
            continue
        if draws[k] < premature_ventricular:
            kind[k] = BeatKind.VENTRICULAR
            onset[k] -= early
        elif draws[k] < premature_ventricular + premature_atrial:
            kind[k] = BeatKind.ATRIAL
            onset[k:] -= early
    return replace(beats, onset_s=onset, kind=kind)


def fibrillatory_waves(rng: np.random.Generator, times_s: np.ndarray) -> np.ndarray:
    """f-waves of atrial fibrillation as a dipole. [time] s -> [3, time] mV.

    Three sources, each a saw-like wave whose frequency (4-9 Hz) and amplitude wander, after Stridh and Sörnmo (2001);
    the strongest points at V1. One recording in eight shows none to the eye.
    """
    amplitude = float(np.clip(np.exp(rng.normal(np.log(0.035), 0.65)), 0.008, 0.15))
    if rng.random() < 0.125:
        amplitude *= 0.15
    common_hz = rng.uniform(4.6, 8.4)
    dipole = np.zeros((3, times_s.size))
    for share in (1.0, rng.uniform(0.3, 0.8), rng.uniform(0.1, 0.5)):
        rate_hz = float(np.clip(common_hz + rng.normal(0, 0.5), 4.0, 9.0))
        direction = rng.standard_normal(3)
        direction = direction / np.linalg.norm(direction) + (1.6 * _V1_DIRECTION if share == 1.0 else 0)
        wander = _slow_waves(rng, times_s, low_hz=0.2, high_hz=1.6, count=3)
        phase = 2 * np.pi * rate_hz * times_s + rng.uniform(0, 2 * np.pi) + rng.uniform(0.4, 1.4) * wander
        envelope = np.clip(1 + 0.5 * _slow_waves(rng, times_s, low_hz=0.1, high_hz=2.0, count=2), 0.1, None)
        second, third = rng.uniform(0.15, 0.5), rng.uniform(0.0, 0.2)
        wave = np.sin(phase) + second * np.sin(2 * phase + 0.3) + third * np.sin(3 * phase + 0.6)
        dipole += (amplitude * share * envelope * wave) * (direction / np.linalg.norm(direction))[:, None]
    return dipole


def flutter_waves(rng: np.random.Generator, times_s: np.ndarray, *, circuit: FlutterCircuit) -> np.ndarray:
    """F-waves of atrial flutter as a dipole. [time] s -> [3, time] mV.

    A saw that falls slowly and rises fast along the foot axis (so the inferior leads look negative), and a narrow
    positive wave towards V1: the counter-clockwise circuit around the tricuspid valve. One in seven turns the other
    way, which flips the foot axis.
    """
    amplitude = float(np.clip(np.exp(rng.normal(np.log(0.11), 0.4)), 0.04, 0.28))
    clockwise = rng.random() < 1 / 7
    angle = 2 * np.pi * (circuit.rate_hz * times_s + circuit.phase)
    angle += 0.08 * _slow_waves(rng, times_s, low_hz=0.05, high_hz=0.4, count=2)
    saw = sum(0.9 ** (h * h) / h * np.sin(h * angle) for h in range(1, 5))
    bump = np.exp(rng.uniform(2.0, 4.5) * (np.cos(angle - rng.uniform(0.5, 2.2)) - 1))
    bump = bump - 0.3
    foot = np.array([rng.normal(-0.1, 0.15), 1.0, rng.normal(0.1, 0.15)]) * (-1 if clockwise else 1)
    to_v1 = _V1_DIRECTION * rng.uniform(0.5, 1.4) * (-0.6 if clockwise else 1)
    return amplitude * (np.outer(foot, 0.8 * saw) + np.outer(to_v1, bump))


def _slow_waves(
    rng: np.random.Generator, times_s: np.ndarray, *, low_hz: float, high_hz: float, count: int
) -> np.ndarray:
    """A smooth random function of unit variance: a few sinusoids of random frequency and phase. [time] s -> [time]."""
    rates, phases = rng.uniform(low_hz, high_hz, count), rng.uniform(0, 2 * np.pi, count)
    waves = np.sin(2 * np.pi * rates[:, None] * times_s + phases[:, None])
    return waves.sum(axis=0) * np.sqrt(2 / count)


def _within(onset_s: np.ndarray, duration_s: float) -> Beats:
    onset_s = onset_s[onset_s < duration_s + _LEAD_IN_S]
    return Beats(onset_s=onset_s, kind=np.full(onset_s.size, BeatKind.CONDUCTED))
