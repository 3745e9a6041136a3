"""The front door of all readers: any file of a known format to one Recording, or to all that it holds.

Each further format is one module, one line in `_READERS` and one in `detect`. A reader is imported when it is needed.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.amplitude import with_checked_amplitude
from hubert_ecg.formats.arrays import ArrayFile
from hubert_ecg.formats.detect import Format, detect_format, header_path
from hubert_ecg.formats.options import ReadOptions

_READERS: dict[Format, tuple[str, str]] = {
    "edf": ("edf", "read_edf"),
    "bdf": ("edf", "read_edf"),
    "dicom": ("dicom", "read_dicom"),
    "aecg": ("aecg", "read_aecg"),
    "muse": ("muse", "read_muse"),
    "philips": ("philips", "read_philips"),
}
"""Format -> module of this package and its `read(path, *, record_id)`, for formats that need no options."""

_NUMBERED = re.compile(r"(?P<file>.+)#(?P<index>\d{1,9})", re.DOTALL | re.ASCII)


def read_recording(
    path: str,
    *,
    sampling_rate_hz: float | None = None,
    record_id: str | None = None,
    options: ReadOptions | None = None,
) -> Recording:
    """Read one recording of any known format; nothing is filtered, resampled or reordered.

    `path` is a file of any known format; a WFDB record may be named by any of its files or without a suffix. One of a
    batch in a .npy or .npz is `batch.npy#3`. `sampling_rate_hz` stands for `options.sampling_rate_hz`, for formats that
    do not carry it; a file that does is followed. `record_id` defaults to the file's name without suffix, `batch#3` for
    one of a batch. Amplitudes that cannot be an ECG's in mV are a finding.

    Raises RecordingError: `missing file`, `unknown format`, `too large`, `unreadable`, `truncated`, `missing leads`,
    `several recordings` and the other reasons of the readers.
    """
    options = _options(options, sampling_rate_hz)
    path, index = _parted(path)
    found = detect_format(path)
    if found in ("npy", "npz"):
        file = _open_array(path, found, options)
        if index is None and file.is_batch and len(file) > 1:
            raise RecordingError(
                "several recordings",
                f"{path}: wanted one recording, got a batch of {len(file)}; name one as {path}#0 or read them all",
            )
        return _one_of(file, index or 0, record_id or (_stem(path) if index is None else _numbered(path, index)))
    if index is not None:
        raise RecordingError("no such recording", f"{path}: wanted recording {index} of a batch, got a {found} file")
    return with_checked_amplitude(_reader(found, options)(path, record_id))


def read_recordings(
    path: str, *, sampling_rate_hz: float | None = None, options: ReadOptions | None = None
) -> list[Recording]:
    """All recordings of a file; those of a batch are called `stem#0`, `stem#1`, ... Errors as `read_recording`."""
    options = _options(options, sampling_rate_hz)
    bare, index = _parted(path)
    if index is None and (found := detect_format(bare)) in ("npy", "npz"):
        file = _open_array(bare, found, options)
        if file.is_batch:
            return [_one_of(file, number, _numbered(bare, number)) for number in range(len(file))]
    return [read_recording(path, options=options)]


def count_recordings(path: str) -> int:
    """How many recordings `read_recordings` would find, from headers alone. Raises RecordingError."""
    bare, index = _parted(path)
    if index is not None:
        return 1
    match detect_format(bare):
        case "npy":
            from hubert_ecg.formats.npy import map_array

            array = map_array(bare)
            return len(array) if array.ndim == 3 else 1
        case "npz":
            from hubert_ecg.formats.npz import count_npz

            return count_npz(bare)
    return 1


def _options(options: ReadOptions | None, sampling_rate_hz: float | None) -> ReadOptions:
    options = options or ReadOptions()
    return options if sampling_rate_hz is None else replace(options, sampling_rate_hz=sampling_rate_hz)


def _parted(path: str) -> tuple[str, int | None]:
    """The file and the number behind its #, if it is no file's own name that holds one."""
    match = _NUMBERED.fullmatch(path)
    if match is None or os.path.exists(path):
        return path, None
    return match["file"], int(match["index"])


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _numbered(path: str, index: int) -> str:
    return f"{_stem(path)}#{index}"


def _open_array(path: str, found: Format, options: ReadOptions) -> ArrayFile:
    _check_size(path, options)
    if found == "npy":
        from hubert_ecg.formats.npy import open_npy

        return open_npy(path, options)
    from hubert_ecg.formats.npz import open_npz

    return open_npz(path, options)


def _one_of(file: ArrayFile, index: int, record_id: str) -> Recording:
    return with_checked_amplitude(file.recording(index, record_id))


def _reader(found: Format, options: ReadOptions) -> Callable[[str, str | None], Recording]:
    if found == "wfdb":
        from hubert_ecg.formats.wfdb import read_wfdb

        return lambda path, record_id: read_wfdb(header_path(path), record_id=record_id, options=options)
    if found == "csv":
        from hubert_ecg.formats.csv import read_csv

        return lambda path, record_id: read_csv(path, record_id=record_id, options=options)
    module, name = _READERS[found]
    read = getattr(import_module(f"hubert_ecg.formats.{module}"), name)

    def read_checked(path: str, record_id: str | None) -> Recording:
        _check_size(path, options)
        return read(path, record_id=record_id)

    return read_checked


def _check_size(path: str, options: ReadOptions) -> None:
    size = os.path.getsize(path)
    if size > options.max_bytes:
        raise RecordingError(
            "too large", f"{path}: wanted at most {options.max_bytes} bytes, got {size}; raise max_bytes to read it"
        )
