"""The recording that the documentation shows: a made-up ECG, no longer than the service wants it."""

from typing import Any

import numpy as np

SAMPLING_RATE_HZ, SECONDS, BEAT_S = 100, 5.0, 0.8
WAVES = {"P": (-0.16, 0.025), "Q": (-0.03, 0.012), "R": (0.0, 0.014), "S": (0.035, 0.014), "T": (0.28, 0.055)}
"""Wave -> its middle after the R peak and its width, in seconds."""
MILLIVOLTS = {
    "I": (0.08, -0.05, 0.7, -0.10, 0.20),
    "II": (0.12, -0.08, 1.0, -0.15, 0.30),
    "V1": (0.05, 0.00, 0.2, -0.90, -0.05),
    "V2": (0.06, 0.00, 0.4, -1.10, 0.35),
    "V3": (0.06, -0.02, 0.8, -0.70, 0.40),
    "V4": (0.07, -0.06, 1.2, -0.40, 0.38),
    "V5": (0.07, -0.08, 1.1, -0.20, 0.30),
    "V6": (0.07, -0.08, 0.9, -0.10, 0.24),
}
"""Lead -> the heights of P, Q, R, S and T. The other four leads follow from I and II."""


def example() -> dict[str, Any]:
    """`recording` of a request as JSON."""
    times_s = np.arange(round(SAMPLING_RATE_HZ * SECONDS)) / SAMPLING_RATE_HZ
    after_r_s = (times_s - 0.4 + BEAT_S / 2) % BEAT_S - BEAT_S / 2
    shapes = np.stack([np.exp(-0.5 * ((after_r_s - middle) / width) ** 2) for middle, width in WAVES.values()])
    samples = np.round(np.array(list(MILLIVOLTS.values())) @ shapes, 2) + 0.0  # No -0.0.
    return {
        "samples": samples.tolist(),
        "leads": list(MILLIVOLTS),
        "sampling_rate_hz": SAMPLING_RATE_HZ,
        "units": "mV",
        "age_years": 61,
        "sex": "female",
    }
