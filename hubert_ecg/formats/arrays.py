"""Arrays of samples without further description (npy, npz): which axis holds the leads, and what they are called."""

import os
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.amplitude import to_mv
from hubert_ecg.formats.options import ReadOptions, Units

_INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
UNKNOWN_LEAD = "unknown"
"""The name of an only lead that nothing names: it can be shown and measured, not diagnosed from."""
_NAMES_BY_COUNT = {12: STANDARD_LEADS, 8: _INDEPENDENT_LEADS, 1: (UNKNOWN_LEAD,)}


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayFile:
    """One recording or a batch of them, not yet read where the array is mapped from a file."""

    path: str
    array: np.ndarray
    """[time], [lead, time], [time, lead], [batch, lead, time] or [batch, time, lead], real numbers."""
    lead_names: tuple[str, ...]
    leads_first: bool
    """Whether the lead axis comes before the time axis."""
    sampling_rate_hz: float
    units: Units

    @property
    def is_batch(self) -> bool:
        return self.array.ndim == 3

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self.array) if self.is_batch else 1

    def recording(self, index: int, record_id: str) -> Recording:
        """Recording number `index`, from 0. Raises RecordingError (`no such recording`, `unreadable`)."""
        if not 0 <= index < len(self):
            raise RecordingError(
                "no such recording", f"{self.path}: wanted recording {index}, the file holds {len(self)}, from 0 on"
            )
        array = self.array[index] if self.is_batch else self.array
        rows = np.atleast_2d(array) if self.leads_first else array.T
        with np.errstate(over="ignore", invalid="ignore"):
            samples = np.array(rows, dtype=np.float32, order="C")
            samples, findings = to_mv(samples, self.units)
        if np.isinf(samples).any():
            raise RecordingError(
                "unreadable", f"{self.path}: wanted samples in mV, got infinite values; export it again"
            )
        return Recording(
            samples=samples,
            sampling_rate_hz=self.sampling_rate_hz,
            lead_names=self.lead_names,
            record_id=record_id,
            findings=findings,
        )


def describe_array(path: str, array: np.ndarray, options: ReadOptions) -> ArrayFile:
    """Find the lead axis of an array. Rows win over columns; 12 leads over 8, and 8 over a single one.

    Raises RecordingError: `unreadable` (not real numbers, empty), `wrong shape`, `missing leads` (neither 12 nor 8
    nor 1 of them, and no names), `bad sampling rate`.
    """
    if array.dtype.kind not in "fiu":
        raise RecordingError("unreadable", f"{path}: wanted real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise RecordingError("unreadable", f"{path}: wanted samples, got an empty array of shape {array.shape}")
    if options.sampling_rate_hz is None:
        kind = os.path.splitext(path)[1] or "NumPy"
        raise RecordingError(
            "bad sampling rate", f"{path}: this {kind} file does not say its sampling rate; give one in Hz"
        )
    leads_first, names = _lead_axis(array.shape, options.lead_names, path)
    return ArrayFile(
        path=path,
        array=array,
        lead_names=names,
        leads_first=leads_first,
        sampling_rate_hz=options.sampling_rate_hz,
        units=options.units,
    )


def _lead_axis(shape: tuple[int, ...], given_names: tuple[str, ...] | None, path: str) -> tuple[bool, tuple[str, ...]]:
    """Whether the leads come before time, and their names."""
    if not 1 <= len(shape) <= 3:
        raise RecordingError(
            "wrong shape",
            f"{path}: wanted [time], [lead, time], [time, lead], [batch, lead, time] or [batch, time, lead], "
            f"got shape {shape}",
        )
    candidates = _NAMES_BY_COUNT if given_names is None else {len(given_names): given_names}
    axes = (1, shape[0]) if len(shape) == 1 else shape[-2:]
    for count, names in candidates.items():
        if axes[0] == count:
            return True, names
        if axes[1] == count and len(shape) > 1:
            return False, names
    wanted = "12 leads" if given_names is None else f"{len(given_names)} leads, as many as names were given"
    raise RecordingError(
        "missing leads",
        f"{path}: wanted {wanted}, got {min(axes)} without names (an array of shape {shape}); give their names",
    )
