"""From the cardiac dipole to a noisy 12-lead ECG: the lead field of a torso, nine electrodes, what disturbs them."""

from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.simulate_rhythm import Breathing

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")

_LIMB_FIELD = np.array([[0.632, -0.235, 0.059], [0.235, 1.066, -0.132]])
"""Leads I and II of Dower's matrix (1980), on Frank's axes."""
_CHEST_FIELD = np.array(
    [
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
"""V1..V6 of Dower's matrix."""
_CHEST_TURN_DEG = np.array([0.0, 0.0, 7.0, 9.0, 5.0, 0.0])
"""V3..V5 look more from the front than in Dower's torso: recorded cohorts have deeper S waves there."""
_MUSCLE_TOP_HZ = 150.0
_MUSCLE_SHARE = np.array([1.0, 1.0, 0.8, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4])
"""Arms and legs tremble more than the chest."""
_BELOW_NYQUIST = 0.45
"""Noise above this fraction of the sampling rate is left out, as a recorder's anti-alias filter would."""


def draw_lead_field(torso: np.random.Generator, placement: np.random.Generator, *, sex: str) -> np.ndarray:
    """[9, 3] potential of each electrode per unit dipole, against the Wilson terminal (so RA + LA + LL is 0).

    `torso` gives what belongs to the patient, `placement` where the electrodes were put this time.
    """
    limbs = _LIMB_FIELD * np.exp(torso.normal(0, 0.08, (2, 1))) + torso.normal(0, 0.05, (2, 3))
    angle = np.radians(_CHEST_TURN_DEG + torso.normal(0, 6) + torso.normal(0, 4, 6) + placement.normal(0, 4, 6))
    x, y, z = _CHEST_FIELD.T
    turned = np.stack([x * np.cos(angle) + z * np.sin(angle), y, z * np.cos(angle) - x * np.sin(angle)], axis=1)
    turned[:, 1] += torso.normal(0, 0.1) + placement.normal(0, 0.06, 6)
    gain = np.exp(torso.normal(0, 0.12) + torso.normal(0, 0.1, (6, 1)) + placement.normal(0, 0.05, (6, 1)))
    if sex == "female":
        gain = gain * np.array([1, 1, 0.95, 0.88, 0.88, 0.92])[:, None]
    lead_1, lead_2 = limbs
    return np.concatenate([np.stack([-(lead_1 + lead_2), 2 * lead_1 - lead_2, 2 * lead_2 - lead_1]) / 3, turned * gain])


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """How much of each disturbance one recording has, in mV at the electrode (root mean square where it is noise)."""

    wander_mv: float
    muscle_mv: float
    mains_mv: float
    mains_hz: float
    gain_error: float
    """Standard deviation of the electrode gains."""
    step_mv: float
    """Jump of one electrode that slipped; 0 in most recordings."""


def draw_disturbance(rng: np.random.Generator, *, noise_level: float) -> Disturbance:
    """Log-normal amplitudes, so that most recordings are clean and some are not; all in proportion to `noise_level`."""
    wander, muscle, mains = np.exp(rng.normal(np.log([0.035, 0.006, 0.002]), [0.8, 0.7, 1.0]))
    slipped = rng.uniform(0.1, 1.0) * (rng.random() < 0.08)
    return Disturbance(
        wander_mv=noise_level * min(wander, 0.35),
        muscle_mv=noise_level * min(muscle, 0.04),
        mains_mv=noise_level * min(mains, 0.03),
        mains_hz=60.0 if rng.random() < 0.4 else 50.0,
        gain_error=noise_level * 0.02,
        step_mv=noise_level * slipped,
    )


def electrode_noise(
    rng: np.random.Generator, times_s: np.ndarray, *, disturbance: Disturbance, breathing: Breathing, rate_hz: float
) -> np.ndarray:
    """Noise of the nine electrodes. [time] s -> [9, time] mV; the same noise at every rate, up to its band limit."""
    noise = disturbance.wander_mv * _baseline_wander(rng, times_s, breathing, rate_hz)
    noise += disturbance.mains_mv * _mains(rng, times_s, disturbance.mains_hz, rate_hz)
    if disturbance.step_mv:
        noise += disturbance.step_mv * _slip(rng, times_s, rate_hz)
    # Last, because how many numbers it draws depends on the sampling rate.
    noise += disturbance.muscle_mv * _muscle_noise(rng, times_s, rate_hz)
    return noise


def leads_from_electrodes(electrodes: np.ndarray) -> np.ndarray:
    """Electrode potentials [9, time] mV -> the 12 standard leads [12, time] mV, float32.

    III, aVR, aVL and aVF are computed from the rounded I and II, so that the limb-lead identities hold in float32 too.
    """
    right_arm, left_arm, left_leg = electrodes[:3]
    lead_1 = (left_arm - right_arm).astype(np.float32)
    lead_2 = (left_leg - right_arm).astype(np.float32)
    leads = np.empty((12, electrodes.shape[1]), np.float32)
    leads[0], leads[1], leads[2] = lead_1, lead_2, lead_2 - lead_1
    leads[3], leads[4], leads[5] = -(lead_1 + lead_2) / 2, lead_1 - lead_2 / 2, lead_2 - lead_1 / 2
    leads[6:] = electrodes[3:] - electrodes[:3].mean(axis=0)
    return leads


def _baseline_wander(rng: np.random.Generator, times_s: np.ndarray, breathing: Breathing, rate_hz: float) -> np.ndarray:
    """Respiration and six slower or faster drifts (0.02-0.7 Hz), half of it shared by neighbours; unit mean square."""
    rates = np.concatenate([[breathing.rate_hz], np.exp(rng.uniform(np.log(0.02), np.log(0.7), 6))])
    weight = np.concatenate([[rng.uniform(0.3, 1.2)], (0.1 / rates[1:]) ** 0.5])
    # Powers of one step are ten times faster than a sine per sample, and exact to 1e-10 over hours.
    turns = np.full((rates.size, times_s.size), np.exp(2j * np.pi * rates / rate_hz)[:, None])
    turns[:, 0] = 1
    turns = np.cumprod(turns, axis=1)
    basis = np.concatenate([turns.imag, turns.real])
    own, shared = rng.standard_normal((len(ELECTRODES), 14)), rng.standard_normal((2, 14))
    mixing = 0.7 * own + 0.7 * np.concatenate([shared[:1].repeat(3, axis=0), shared[1:].repeat(6, axis=0)])
    weight = np.tile(weight / np.sqrt((weight**2).sum()), 2)
    contact = np.exp(rng.normal(0, 0.5, (len(ELECTRODES), 1)))
    return np.asarray((contact * mixing * weight) @ basis)


def _muscle_noise(rng: np.random.Generator, times_s: np.ndarray, rate_hz: float) -> np.ndarray:
    """Electromyogram: random phases under a smooth spectrum (5-100 Hz), with bursts; unit mean square.

    Frequencies are drawn from low to high, so a lower sampling rate gets the same noise with its top cut off.
    """
    envelope = np.ones_like(times_s)
    if rng.random() < 0.3:
        centre, width, height = rng.uniform(0, times_s.size / rate_hz), rng.uniform(0.3, 1.5), rng.uniform(1, 4)
        envelope = envelope + height * np.exp(-0.5 * ((times_s - centre) / width) ** 2)
    individual = np.exp(rng.normal(np.log(_MUSCLE_SHARE), 0.35))[:, None]
    resolution_hz = rate_hz / times_s.size
    lines = resolution_hz * np.arange(1, int(min(_MUSCLE_TOP_HZ, _BELOW_NYQUIST * rate_hz) / resolution_hz) + 1)
    whole = np.arange(0.25, _MUSCLE_TOP_HZ, 0.5)
    power = _muscle_power(lines) * resolution_hz / (0.5 * _muscle_power(whole).sum())
    scale = (np.sqrt(power) * (times_s.size / 2)).astype(np.float32)
    parts = rng.standard_normal((lines.size, len(ELECTRODES), 2), np.float32) * scale[:, None, None]
    spectrum = np.zeros((len(ELECTRODES), times_s.size // 2 + 1), np.complex64)
    spectrum[:, 1 : lines.size + 1] = parts.view(np.complex64)[..., 0].T
    return individual * envelope * np.fft.irfft(spectrum, n=times_s.size, axis=1)


def _muscle_power(frequency_hz: np.ndarray) -> np.ndarray:
    """Power density per Hz, up to a factor: tremor and motion from 5 Hz up, muscle to 100 Hz."""
    return 1 / (1 + (6 / frequency_hz) ** 4) / (1 + frequency_hz / 25) / (1 + (frequency_hz / 100) ** 4)


def _mains(rng: np.random.Generator, times_s: np.ndarray, mains_hz: float, rate_hz: float) -> np.ndarray:
    """Hum of one phase, different in strength at every electrode; absent where the rate cannot hold it."""
    strength = np.sqrt(2) * rng.uniform(-0.3, 1.2, (len(ELECTRODES), 1))
    phase = rng.uniform(0, 2 * np.pi)
    if mains_hz > _BELOW_NYQUIST * rate_hz:
        return np.zeros((len(ELECTRODES), times_s.size))
    return strength * np.sin(2 * np.pi * mains_hz * times_s + phase)


def _slip(rng: np.random.Generator, times_s: np.ndarray, rate_hz: float) -> np.ndarray:
    """One electrode slips: up to four jumps within two seconds, which the recorder's high-pass lets decay."""
    which, when = rng.integers(len(ELECTRODES)), rng.uniform(0.0, 0.95) * times_s.size / rate_hz
    decay = rng.uniform(0.5, 3.0)
    noise = np.zeros((len(ELECTRODES), times_s.size))
    for _ in range(rng.integers(1, 5)):
        since = times_s - when
        rise, height = rng.uniform(0.01, 0.04), rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0)
        step = 1 / (1 + np.exp(-np.clip(since / rise, -50, 50)))
        noise[which] += height * step * np.exp(-np.clip(since, 0, None) / decay)
        when += rng.uniform(0.05, 0.7)
    return noise
