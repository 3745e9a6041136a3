"""Open a NumPy .npz archive that holds one recording or a batch of them; see `arrays` for the shapes.

The samples are its only array, or the one called ecg, signal, signals, samples or data. Beside them may stand the
sampling rate (`sampling_rate_hz`, `sampling_rate` or `fs`), the lead names (`lead_names`, `leads` or `sig_name`) and
the unit (`units` or `unit`); what the archive says is followed.
"""

import math
import os
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.arrays import ArrayFile, describe_array
from hubert_ecg.formats.bounded import clipped
from hubert_ecg.formats.npy import MAX_HEADER_BYTES, parse_npy_header
from hubert_ecg.formats.options import ReadOptions, Units

_SAMPLE_NAMES = ("ecg", "signal", "signals", "samples", "data")
_RATE_NAMES = ("sampling_rate_hz", "sampling_rate", "fs")
_LEAD_NAMES = ("lead_names", "leads", "sig_name")
_UNIT_NAMES = ("units", "unit")
_UNITS: dict[str, Units] = {"mv": "mV", "uv": "uV", "µv": "uV", "μv": "uV", "v": "V"}

_MAX_EXPANSION = 32
_FREE_BYTES = 16 << 20
"""An archive may unpack to this much, and beyond it to `_MAX_EXPANSION` times its size; real ECGs pack 20:1 at best."""
_MAX_NOTE_BYTES = 1 << 16


def open_npz(path: str, options: ReadOptions) -> ArrayFile:
    """The samples of an archive, unpacked to no more than a small multiple of its size; nothing is unpickled.

    Raises RecordingError: `missing file`, `unreadable`, `too large` (it unpacks to far more than it is), `wrong shape`,
    `missing leads`, `bad sampling rate`, `unknown unit`.
    """
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file; check the data set's folder")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            samples = _read_member(
                archive, _samples_member(members, path), path, min(_allowance(path), options.max_bytes)
            )
            options = _noted_options(archive, members, path, options)
    except RecordingError:
        raise
    except Exception as error:  # a damaged archive fails in many ways, and all of them are this file's fault
        raise RecordingError("unreadable", f"{path}: wanted a NumPy .npz archive; {clipped(error)}") from error
    return describe_array(path, samples, options)


def count_npz(path: str) -> int:
    """Number of recordings, from the header of the samples alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            with archive.open(_samples_member(members, path)) as stream:
                shape = parse_npy_header(stream.read(MAX_HEADER_BYTES)).shape
    except RecordingError:
        raise
    except Exception as error:  # as above
        raise RecordingError("unreadable", f"{path}: wanted a NumPy .npz archive; {clipped(error)}") from error
    return shape[0] if len(shape) == 3 else 1


def _samples_member(members: dict[str, zipfile.ZipInfo], path: str) -> zipfile.ZipInfo:
    for name in _SAMPLE_NAMES:
        if name in members:
            return members[name]
    notes = {*_RATE_NAMES, *_LEAD_NAMES, *_UNIT_NAMES}
    others = [info for name, info in members.items() if name not in notes]
    if len(others) != 1:
        raise RecordingError(
            "unreadable",
            f"{path}: wanted one array of samples, or one called {', '.join(_SAMPLE_NAMES)}; got {len(others)} others",
        )
    return others[0]


def _allowance(path: str) -> int:
    return _FREE_BYTES + _MAX_EXPANSION * os.path.getsize(path)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, max_bytes: int) -> np.ndarray:
    """The array of a member, after both its declared size and its header were seen to be within bounds."""
    if info.file_size > max_bytes:
        raise RecordingError(
            "too large",
            f"{path}: wanted an array of at most {max_bytes} bytes in a file of this size, it unpacks to "
            f"{info.file_size}; save it without compression",
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("its compression is not NumPy's")
    with archive.open(info) as stream:
        content = stream.read(max_bytes + 1)
    header = parse_npy_header(content)
    if len(content) - header.size < header.num_bytes:
        raise ValueError(f"its array of shape {header.shape} is cut short")
    return np.ndarray(header.shape, header.dtype, buffer=content, offset=header.size, order=header.order)


def _noted_options(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: str, options: ReadOptions
) -> ReadOptions:
    """The options, with what the archive says itself in their place."""

    def note(names: tuple[str, ...]) -> np.ndarray | None:
        found = next((members[name] for name in names if name in members), None)
        return None if found is None else _read_member(archive, found, path, _MAX_NOTE_BYTES)

    told: dict[str, Any] = {}
    rate, leads, unit = note(_RATE_NAMES), note(_LEAD_NAMES), note(_UNIT_NAMES)
    if rate is not None:
        told["sampling_rate_hz"] = _noted_rate(rate, path)
    if leads is not None:
        told["lead_names"] = _noted_leads(leads, path)
    if unit is not None:
        told["units"] = _noted_unit(unit, path)
    return replace(options, **told)


def _noted_rate(rate: np.ndarray, path: str) -> float:
    if rate.size == 1 and rate.dtype.kind in "fiu" and 0 < float(rate.item()) < math.inf:
        return float(rate.item())
    raise RecordingError("bad sampling rate", f"{path}: wanted a sampling rate above 0 Hz in it, got {clipped(rate)}")


def _noted_leads(leads: np.ndarray, path: str) -> tuple[str, ...]:
    if names := _texts(leads):
        return tuple(clipped(name) for name in names)
    raise RecordingError("missing leads", f"{path}: wanted names of leads as text in it, got {clipped(leads)}")


def _noted_unit(unit: np.ndarray, path: str) -> Units:
    names = {name.strip().lower() for name in _texts(unit)}
    if len(names) == 1 and (known := _UNITS.get(names.pop())):
        return known
    raise RecordingError("unknown unit", f"{path}: wanted one unit of mV, uV or V in it, got {clipped(unit)}")


def _texts(array: np.ndarray) -> list[str]:
    """The elements of an array of strings, or of byte strings, which HDF5 and Matlab exports hold; empty for others."""
    if array.dtype.kind == "S":
        return [content.decode("utf-8", errors="replace") for content in array.ravel().tolist()]
    return [str(text) for text in array.ravel()] if array.dtype.kind == "U" else []
