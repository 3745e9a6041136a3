"""Raw files to Recordings: one reader per format, chosen here by the file's name.

A reader turns whatever is wrong with a file into a RecordingError with a stable `reason`, and never executes what it
reads. Each further format is one more module and one more line in `read_recording`.
"""

import os

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.npy import read_npy
from hubert_ecg.formats.wfdb import read_wfdb

__all__ = ["read_npy", "read_recording", "read_wfdb"]

_WFDB_SUFFIXES = (".hea", ".dat", ".mat")


def read_recording(path: str, *, sampling_rate_hz: float | None = None, record_id: str | None = None) -> Recording:
    """Read one recording of any known format; nothing is filtered, resampled or reordered.

    `path` ends in .npy, or names a WFDB record by its .hea, .dat or .mat file or without a suffix (a .hea lies beside
    it). `sampling_rate_hz` is for formats that do not carry it (.npy); a file that does is followed. `record_id`
    defaults to the file's name without suffix.

    Raises RecordingError: `missing file`, `unknown format`, `unreadable`, `truncated`, `missing leads` and the other
    reasons of the readers.
    """
    stem, suffix = os.path.splitext(path)
    if suffix.lower() == ".npy":
        return read_npy(path, sampling_rate_hz=sampling_rate_hz, record_id=record_id)
    if suffix.lower() in _WFDB_SUFFIXES:
        return read_wfdb(path if suffix.lower() == ".hea" else stem + ".hea", record_id=record_id)
    if os.path.isfile(path + ".hea"):
        return read_wfdb(path + ".hea", record_id=record_id)
    if os.path.isfile(path):
        raise RecordingError(
            "unknown format", f"{path}: wanted a .npy file or a WFDB record (.hea), got {suffix or 'no suffix'}"
        )
    raise RecordingError("missing file", f"{path}: no such file, nor {path}.hea; check the data set's folder")
