"""Units of voltage as files spell them, and numbers in them to float32 millivolts."""

import numpy as np

from hubert_ecg.errors import RecordingError

_MV_PER_UNIT = {
    "v": 1e3, "volt": 1e3, "volts": 1e3,
    "mv": 1.0, "millivolt": 1.0, "millivolts": 1.0,
    "uv": 1e-3, "microvolt": 1e-3, "microvolts": 1e-3,
    "nv": 1e-6, "nanovolt": 1e-6, "nanovolts": 1e-6,
}  # fmt: skip


def mv_per_unit(unit: str) -> float | None:
    """How many mV one `unit` is, in any spelling of V, mV, uV and nV; None for what is no voltage."""
    return _MV_PER_UNIT.get(unit.strip().lower().replace("µ", "u").replace("μ", "u"))


def required_mv_per_unit(unit: str, what: str) -> float:
    """As `mv_per_unit`. Raises RecordingError (`unknown unit`) that names `what` where it is no voltage."""
    scale = mv_per_unit(unit)
    if scale is None:
        raise RecordingError(
            "unknown unit", f"{what}: wanted mV, uV, nV or V, got {unit[:40]!r}; correct the file's unit"
        )
    return scale


def to_millivolts(raw: np.ndarray, *, gain_mv: np.ndarray, offset_mv: np.ndarray, what: str) -> np.ndarray:
    """[lead, time] numbers, [lead] mV per number, [lead] mV at number 0 -> [lead, time] mV, float32.

    Raises RecordingError (`unreadable`) where that is infinite: the gains in the header are damaged.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        samples = (raw * gain_mv[:, None] + offset_mv[:, None]).astype(np.float32)
    if np.isinf(samples).any():
        raise RecordingError("unreadable", f"{what}: its gains make infinite samples; correct the file's header")
    return samples
