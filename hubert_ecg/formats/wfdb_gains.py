"""Find header gains that contradict one another, and the one gain that all leads were recorded with.

Some archives give every lead a gain of its own so that each comes out 1 unit high (LUDB does). The limb leads then no
longer fulfil Einthoven's law, III = II - I, by up to 0.7 mV, while the steps in the file fulfil it to the last digit:
they were recorded with one gain, and the header's are wrong.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.leads import canonical_lead

_STEPS_PER_MV = 1000.0
"""1 uV a step, the commonest resolution of ECG archives, assumed where no gain is shared by half of the leads."""
_ROUNDING_STEPS = 3.0
"""Three leads rounded to whole steps each may differ by 1.5 of them, or 3 where one was derived from rounded ones."""
_CONTRADICTION_MV = 0.005
"""Gains that break Einthoven's law by less than this are left alone."""


def common_gain(
    names: Sequence[str], steps: Sequence[np.ndarray], steps_per_mv: np.ndarray, baselines: np.ndarray
) -> tuple[float, Finding] | None:
    """Steps per mV of all leads, and the finding that says so, where the header's gains are wrong; otherwise None.

    names: of the leads. steps: per lead [time] integers. steps_per_mv, baselines: [lead], as the header has them.
    """
    if np.ptp(steps_per_mv) == 0:
        return None
    rows = {canonical_lead(name): row for row, name in enumerate(names)}
    if not {"I", "II", "III"} <= rows.keys():
        return None
    i, ii, iii = (rows[lead] for lead in ("I", "II", "III"))
    if not len(steps[i]) == len(steps[ii]) == len(steps[iii]):
        return None
    raw = {row: steps[row].astype(np.float64) for row in (i, ii, iii)}
    raw_error = np.ptp(raw[ii] - raw[i] - raw[iii])
    scaled = {row: (raw[row] - baselines[row]) / steps_per_mv[row] for row in raw}
    error_mv = np.ptp(scaled[ii] - scaled[i] - scaled[iii])
    if raw_error > _ROUNDING_STEPS or error_mv < _CONTRADICTION_MV:
        return None
    return _chosen_gain(steps_per_mv, float(error_mv), float(raw_error))


def _chosen_gain(steps_per_mv: np.ndarray, error_mv: float, error_steps: float) -> tuple[float, Finding]:
    gain, count = Counter(steps_per_mv.tolist()).most_common(1)[0]
    if 2 * count >= len(steps_per_mv):
        origin = f"which {count} of {len(steps_per_mv)} leads have"
    else:
        gain, origin = _STEPS_PER_MV, "1 uV a step, the commonest resolution"
    finding = Finding(
        kind="inconsistent gains",
        severity="warning",
        detail=f"With the header's gains ({steps_per_mv.min():g} to {steps_per_mv.max():g} steps per mV) III differs "
        f"from II - I by {error_mv:.3f} mV, in the file's own steps by {error_steps:g}; the leads share one gain. "
        f"Read with {gain:g} steps per mV for all, {origin}, and no baseline.",
    )
    return float(gain), finding
