"""Read a NumPy .npy file that holds one recording, 12 leads or the 8 independent ones, in mV."""

import os

import numpy as np

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.errors import RecordingError

_INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_LEADS_BY_COUNT = {12: STANDARD_LEADS, 8: _INDEPENDENT_LEADS}


def read_npy(path: str, *, sampling_rate_hz: float | None, record_id: str | None = None) -> Recording:
    """[lead, time] or [time, lead] of 12 leads in `STANDARD_LEADS` order, or of I, II, V1..V6; values are taken as mV.

    An array of another number of leads cannot be read, for a .npy does not name them.

    Raises RecordingError: `missing file`, `unreadable` (cut short, pickled objects, not numeric), `wrong shape`,
    `missing leads`, `bad sampling rate`.
    """
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file; check the data set's folder")
    if sampling_rate_hz is None:
        raise RecordingError("bad sampling rate", f"{path}: a .npy file does not say its sampling rate; give one in Hz")
    array = _load(path)
    leads_first, lead_names = _orientation(array.shape, path)
    with np.errstate(over="ignore", invalid="ignore"):
        samples = np.array(array if leads_first else array.T, dtype=np.float32, order="C")
    if np.isinf(samples).any():
        raise RecordingError("unreadable", f"{path}: wanted samples in mV, got infinite values; export it again")
    return Recording(
        samples=samples,
        sampling_rate_hz=sampling_rate_hz,
        lead_names=lead_names,
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
    )


def _load(path: str) -> np.ndarray:
    """The array, mapped rather than read: a header that promises more than the file holds costs no memory."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header fails in many ways, and all of them are this file's fault
        raise RecordingError("unreadable", f"{path}: wanted a complete numeric .npy array; {error}") from error
    if array.dtype.kind not in "fiu":
        raise RecordingError("unreadable", f"{path}: wanted real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise RecordingError("unreadable", f"{path}: wanted samples, got an empty array of shape {array.shape}")
    return array


def _orientation(shape: tuple[int, ...], path: str) -> tuple[bool, tuple[str, ...]]:
    """Whether the leads are the rows, and their names. 12 wins over 8, rows over columns."""
    if len(shape) != 2:
        raise RecordingError("wrong shape", f"{path}: wanted [lead, time] or [time, lead], got shape {shape}")
    for count, names in _LEADS_BY_COUNT.items():
        if shape[0] == count:
            return True, names
        if shape[1] == count:
            return False, names
    raise RecordingError(
        "missing leads",
        f"{path}: wanted 12 leads, got {min(shape)} without names (an array of shape {shape})",
    )
