"""The shape of a simulated beat: P, QRS and T as Gaussian pieces of the cardiac dipole, for each way of conduction.

Axes are Frank's: x to the left, y to the feet, z to the back; vectors are in mV. Every piece is a Gaussian in time
whose width may differ before and after its centre. A wave begins (ends) two standard deviations before (after) the
centre of its first (last) piece: that is the onset and offset that QRS, PR and QT of the truth refer to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

Conduction = Literal["normal", "CLBBB", "CRBBB"]

FINDINGS = (
    "left axis",
    "left ventricular hypertrophy",
    "inferior infarct",
    "anterior infarct",
    "ST-T change",
    "slow conduction",
    "incomplete right block",
)
"""Abnormal shapes outside the labelled conditions; a patient may have several."""


class BeatKind(IntEnum):
    """Where a beat comes from."""

    CONDUCTED = 0
    ATRIAL = 1
    VENTRICULAR = 2


@dataclass(frozen=True)
class Pieces:
    """Gaussian pieces of one beat, times relative to the QRS onset."""

    centre_s: np.ndarray
    """[piece], or [beat, piece] where the beats differ; so with the widths."""
    rise_s: np.ndarray
    """Standard deviation before the centre."""
    fall_s: np.ndarray
    """Standard deviation after the centre."""
    vector_mv: np.ndarray
    """[piece, 3]"""

    def at_beats(self, onset_s: np.ndarray, strength: np.ndarray) -> "Pieces":
        """These pieces once per beat, [beat * piece], on the clock of `onset_s` [beat], scaled by `strength` [beat]."""
        centre = onset_s[:, None] + self.centre_s
        return Pieces(
            centre.ravel(),
            np.broadcast_to(self.rise_s, centre.shape).ravel(),
            np.broadcast_to(self.fall_s, centre.shape).ravel(),
            (strength[:, None, None] * self.vector_mv).reshape(-1, 3),
        )

    def area(self) -> np.ndarray:
        """Time integral of the dipole, [3] in mV s."""
        widths = (self.rise_s + self.fall_s) * np.sqrt(np.pi / 2)
        return np.asarray(widths @ self.vector_mv)


def join(parts: Sequence[Pieces]) -> Pieces:
    """All pieces of the parts, each [piece]."""
    return Pieces(
        np.concatenate([part.centre_s for part in parts]),
        np.concatenate([part.rise_s for part in parts]),
        np.concatenate([part.fall_s for part in parts]),
        np.concatenate([part.vector_mv for part in parts]),
    )


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One patient's ventricles and atria: drawn the same way whatever the condition."""

    qrs_scale: float
    p_scale: float
    t_scale: float
    qrs_rotation: np.ndarray
    """[3, 3] position of the heart in the chest, QRS and T."""
    p_rotation: np.ndarray
    t_rotation: np.ndarray
    """[3, 3] on top of `qrs_rotation`."""
    loop_jitter: np.ndarray
    """[6, 3] individual deviation of each piece of the QRS, as a fraction of the largest one."""
    shape: np.ndarray
    """[12] uniform numbers in [0, 1) that place the remaining parameters within their ranges."""
    severity: float
    """How marked the findings are, 0 to 1."""
    findings: frozenset[str]
    corrected_qt_s: float
    """QT at an RR of 1 s and a QRS of 90 ms."""

    def between(self, index: int, low: float, high: float) -> float:
        return low + float(self.shape[index]) * (high - low)


def rotation(frontal_deg: float, horizontal_deg: float, sagittal_deg: float) -> np.ndarray:
    """[3, 3] rotation: frontal turns left towards the feet, horizontal left towards the back, sagittal feet to back."""
    a, b, c = np.radians([frontal_deg, horizontal_deg, sagittal_deg])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return about_z @ about_y @ about_x


def draw_heart(rng: np.random.Generator, *, age_years: float, sex: str, findings: frozenset[str]) -> Heart:
    """A heart of that age and sex: voltage falls and the axis turns left with age; women have less, and longer QT."""
    female = sex == "female"
    voltage = np.exp(rng.normal(0, 0.28)) * (0.9 if female else 1.0) * (1.15 - 0.0025 * age_years)
    if rng.random() < 0.05:
        voltage *= 0.55
    frontal = rng.normal(-0.3 * (age_years - 50), 20)
    return Heart(
        qrs_scale=voltage,
        p_scale=float(np.clip(np.exp(rng.normal(0, 0.4)), 0.25, 2.0)),
        t_scale=float(np.exp(rng.normal(0, 0.35)) * (0.85 if female else 1.0)),
        qrs_rotation=rotation(float(np.clip(frontal, -55, 45)), rng.normal(4, 17), rng.normal(0, 10)),
        p_rotation=rotation(rng.normal(0, 15), rng.normal(0, 15), rng.normal(0, 12)),
        t_rotation=rotation(rng.normal(0, 12), rng.normal(-5 if female else -12, 16), rng.normal(0, 10)),
        loop_jitter=0.09 * rng.standard_normal((6, 3)),
        shape=rng.random(12),
        severity=rng.random(),
        findings=findings,
        corrected_qt_s=float(np.clip(rng.normal(0.408 if female else 0.398, 0.018), 0.36, 0.46)),
    )


def qrs_duration_s(heart: Heart, conduction: Conduction) -> float:
    """120-180 ms in left and 120-160 ms in right bundle branch block; 78-104 ms otherwise, more in slow conduction."""
    if conduction == "CLBBB":
        return heart.between(0, 0.124, 0.178)
    if conduction == "CRBBB":
        return heart.between(0, 0.122, 0.160)
    duration = heart.between(0, 0.078, 0.104)
    if "left ventricular hypertrophy" in heart.findings:
        duration += 0.008
    if "slow conduction" in heart.findings:
        return max(duration, heart.between(1, 0.108, 0.124))
    if "incomplete right block" in heart.findings:
        return max(duration, heart.between(1, 0.100, 0.117))
    return duration


def qrs_pieces(heart: Heart, conduction: Conduction) -> Pieces:
    """Depolarisation of the ventricles, from its onset at 0 to its end at `qrs_duration_s`."""
    duration = qrs_duration_s(heart, conduction)
    if conduction == "CLBBB":
        pieces = _left_block(heart, duration)
    elif conduction == "CRBBB" or "incomplete right block" in heart.findings:
        pieces = _right_block(heart, duration, complete=conduction == "CRBBB")
    else:
        pieces = _normal_loop(heart, duration)
    vectors = pieces.vector_mv
    jitter = heart.loop_jitter[: len(vectors)] * np.linalg.norm(vectors, axis=1).max()
    vectors = heart.qrs_scale * (vectors + jitter) @ heart.qrs_rotation.T
    return Pieces(pieces.centre_s, pieces.rise_s, pieces.fall_s, vectors)


def _normal_loop(heart: Heart, duration_s: float) -> Pieces:
    """Septum, apex and anterior wall, free left wall, base, outflow tract."""
    vectors = np.array(
        [[-0.12, -0.02, -0.17], [0.50, 0.28, -0.38], [1.22, 0.58, 0.32], [0.32, 0.12, 0.75], [-0.08, -0.10, 0.22]]
    )
    depth = 0.4 + 0.6 * heart.severity
    if "left ventricular hypertrophy" in heart.findings:
        vectors[2:4] *= 1 + depth * np.array([0.9, 0.4, 1.0])
    if "inferior infarct" in heart.findings:
        vectors[0] += depth * np.array([0.0, -0.42, 0.0])
        vectors[1] += depth * np.array([0.0, -0.5, 0.0])
        vectors[2, 1] *= 1 - 0.6 * depth
    if "anterior infarct" in heart.findings:
        vectors[0] += depth * np.array([0.0, 0.0, 0.4])
        vectors[1] += depth * np.array([-0.15, 0.0, 0.75])
        vectors[2, 2] += 0.25 * depth
    if "left axis" in heart.findings:
        for k, angle in enumerate((50, -5, -65, -85, -60)):
            vectors[k] = rotation(angle * (0.75 + 0.45 * heart.severity), 0, 0) @ vectors[k]
    centres = duration_s * np.array([0.15, 0.32, 0.49, 0.67, 0.85])
    widths = duration_s * np.array([0.075, 0.083, 0.083, 0.083, 0.075])
    return Pieces(centres, widths, widths, vectors)


def _right_block(heart: Heart, duration_s: float, *, complete: bool) -> Pieces:
    """The left ventricle as always, then a slow vector to the right and front: R' in V1, wide S in I and V6."""
    early = _normal_loop(heart, heart.between(2, 0.072, 0.086))
    vectors = early.vector_mv[:4] * np.array([1.0, 1.0, 0.85, heart.between(3, 0.1, 0.5)])[:, None]
    vectors[2, 2] *= 0.5
    size = heart.between(4, 0.7, 1.5) if complete else heart.between(4, 0.25, 0.55)
    height = heart.between(5, -0.35, 0.25)
    late = size * np.array([[-0.5, height, -0.55], [-0.55, height, -0.55]])
    late[1] *= heart.between(6, 0.5, 1.0)
    centres = np.concatenate([early.centre_s[:4], duration_s * np.array([0.62, 0.81])])
    widths = np.concatenate([early.rise_s[:4], duration_s * np.array([0.1, 0.095])])
    return Pieces(centres, widths, widths, np.concatenate([vectors, late]))


def _left_block(heart: Heart, duration_s: float) -> Pieces:
    """Septum from right to left, then slowly across the left ventricle: notched broad R in I, V6; QS or rS in V1."""
    back = heart.between(2, 0.6, 1.3)
    foot = heart.between(3, -0.25, 0.55)
    vectors = np.array(
        [
            [0.22, 0.15, heart.between(4, -0.22, 0.12)],
            [0.75, 0.20 + foot, 1.00 * back],
            [0.35, 0.05 + 0.5 * foot, 0.80 * back],
            [0.90, 0.5 * foot, 1.55 * back],
            [0.30, 0.2 * foot - 0.05, 0.75 * back],
        ]
    )
    vectors[1] *= heart.between(5, 0.75, 1.15)
    vectors[3] *= heart.between(6, 0.8, 1.2)
    if "left axis" in heart.findings:
        vectors[2:] = vectors[2:] @ rotation(-45, 0, 0).T
    centres = duration_s * np.array([0.14, 0.33, 0.48, 0.63, 0.84])
    broad = heart.between(7, 0.085, 0.115)
    widths = duration_s * np.array([0.07, broad, 0.1, broad, 0.08])
    return Pieces(centres, widths, widths, 1.15 * vectors)


def t_pieces(heart: Heart, conduction: Conduction, qrs: Pieces, *, qrs_s: float, qt_s: np.ndarray) -> Pieces:
    """ST segment and T wave, ending `qt_s` [beat] after the QRS onset.

    Primary T points left, down and to the front; after a block it is turned away from the late part of the QRS
    (secondary, discordant), in proportion to the QRS area.
    """
    fall = (qt_s - qrs_s) * heart.between(8, 0.11, 0.155)
    peak = qt_s - 2 * fall
    primary = 0.30 * heart.t_scale * heart.qrs_rotation @ heart.t_rotation @ np.array([0.72, 0.52, -0.5])
    primary *= 0.4 + 0.6 * min(heart.qrs_scale, 1.3)
    st = 0.12 * primary
    mean_qrs = qrs.area() / 0.09
    if conduction == "CLBBB":
        discord = heart.between(9, 0.22, 0.42)
        primary = 0.35 * primary - discord * mean_qrs
        st = -heart.between(10, 0.05, 0.16) * mean_qrs
    elif conduction == "CRBBB":
        late = qrs.vector_mv[-2:].sum(axis=0)
        primary = primary - heart.between(9, 0.15, 0.5) * late
        st = st - heart.between(10, 0.0, 0.08) * late
    if "left ventricular hypertrophy" in heart.findings:
        primary = (1 - heart.severity) * primary - 0.18 * heart.severity * mean_qrs
        st = st - 0.08 * heart.severity * mean_qrs
    if "ST-T change" in heart.findings:
        primary = primary * (0.45 - 1.1 * heart.severity)
        st = st + heart.between(11, -0.5, 0.15) * 0.3 * heart.qrs_rotation @ np.array([0.7, 0.5, -0.3])
    if "inferior infarct" in heart.findings:
        primary = primary + heart.severity * np.array([0.0, -0.2, 0.05])
    if "anterior infarct" in heart.findings:
        primary = primary + heart.severity * np.array([-0.1, 0.0, heart.between(11, -0.15, 0.3)])
    st_centre = qrs_s + 0.4 * (peak - qrs_s)
    return Pieces(
        np.stack([st_centre, peak], axis=1),
        np.stack([0.45 * (st_centre - qrs_s) + 0.008, fall * heart.between(10, 1.3, 1.9)], axis=1),
        np.stack([0.6 * (peak - st_centre), fall], axis=1),
        np.stack([st, primary]),
    )


def p_pieces(heart: Heart, *, pr_s: float, ectopic: bool) -> Pieces:
    """Right then left atrium, from `pr_s` before the QRS onset; an ectopic focus turns and shortens the wave."""
    duration = heart.between(1, 0.085, 0.125) * (0.85 if ectopic else 1.0)
    width = duration * heart.between(2, 0.17, 0.21)
    vectors = np.array([[0.045, 0.085, -0.06], [0.075, 0.06, 0.055]]) @ heart.p_rotation.T
    if ectopic:
        vectors = vectors @ rotation(heart.between(3, -150, 150), heart.between(4, -60, 60), 0).T
    centres = np.array([2 * width, duration - 2 * width]) - pr_s
    widths = np.full(2, width)
    return Pieces(centres, widths, widths, heart.p_scale * vectors)


def ventricular_ectopic_pieces(heart: Heart, *, qt_s: np.ndarray) -> tuple[Pieces, Pieces]:
    """QRS, and T ending at `qt_s` [beat], of premature ventricular beats: wide, large, T opposite to the QRS.

    There is no P, and the focus is the patient's own.
    """
    duration = heart.between(3, 0.13, 0.17)
    focus = rotation(heart.between(4, -170, 170), heart.between(5, -90, 90), 0) @ np.array([1.0, 0.0, 0.0])
    side = rotation(70, 30, 0) @ focus
    size = heart.qrs_scale * heart.between(6, 0.9, 1.7)
    vectors = size * np.stack([0.4 * focus + 0.3 * side, focus, 0.8 * focus - 0.25 * side, 0.25 * focus - 0.2 * side])
    centres = duration * np.array([0.16, 0.38, 0.62, 0.84])
    widths = duration * np.array([0.08, 0.11, 0.11, 0.08])
    fall = (qt_s[:, None] - duration) * 0.14
    away = -0.45 * size * (focus + 0.2 * side)
    return Pieces(centres, widths, widths, vectors), Pieces(qt_s[:, None] - 2 * fall, 1.8 * fall, fall, away[None])


def peak_time_s(qrs: Pieces) -> float:
    """When the QRS vector is longest, in seconds after its onset (to half a millisecond)."""
    times = np.arange(0.0, float((qrs.centre_s + 2 * qrs.fall_s).max()), 0.0005)
    z = (times[:, None] - qrs.centre_s) / np.where(times[:, None] < qrs.centre_s, qrs.rise_s, qrs.fall_s)
    return float(times[np.linalg.norm(np.exp(-0.5 * z * z) @ qrs.vector_mv, axis=1).argmax()])


def evaluate(pieces: Pieces, times_s: np.ndarray, *, rate_hz: float, reach: float = 4.5) -> np.ndarray:
    """The dipole at the sample times: the sum of all pieces, each computed within `reach` deviations of its centre.

    `times_s` [time] must be k / rate_hz from k = 0; returns [3, time] mV.
    """
    first = np.clip(np.ceil((pieces.centre_s - reach * pieces.rise_s) * rate_hz), 0, times_s.size).astype(int)
    last = np.clip(np.floor((pieces.centre_s + reach * pieces.fall_s) * rate_hz) + 1, 0, times_s.size).astype(int)
    lengths = np.maximum(last - first, 0)
    piece = np.repeat(np.arange(lengths.size), lengths)
    starts = np.cumsum(lengths) - lengths
    sample = np.arange(piece.size) - starts[piece] + first[piece]
    distance = times_s[sample] - pieces.centre_s[piece]
    width = np.where(distance < 0, pieces.rise_s[piece], pieces.fall_s[piece])
    height = np.exp(-0.5 * (distance / width) ** 2)
    return np.stack([np.bincount(sample, height * pieces.vector_mv[piece, axis], times_s.size) for axis in range(3)])
