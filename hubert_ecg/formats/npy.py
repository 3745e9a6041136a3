"""Open a NumPy .npy file that holds one recording or a batch of them; see `arrays` for the shapes."""

import io
import math
import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.arrays import ArrayFile, describe_array
from hubert_ecg.formats.bounded import clipped
from hubert_ecg.formats.options import ReadOptions

MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class NpyHeader:
    """What the bytes before the numbers say."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype
    size: int
    """Bytes of the header itself."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the numbers that it promises."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_npy(path: str, options: ReadOptions) -> ArrayFile:
    """The file's array, mapped rather than read: a header that promises more than the file holds costs no memory.

    Raises RecordingError: `missing file`, `unreadable` (cut short, pickled objects, not numeric), `wrong shape`,
    `missing leads`, `bad sampling rate`.
    """
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file; check the data set's folder")
    return describe_array(path, map_array(path), options)


def map_array(path: str) -> np.ndarray:
    """The array of a .npy file as a read-only memory map."""
    try:
        with open(path, "rb") as file:
            header = parse_npy_header(file.read(MAX_HEADER_BYTES))
        held = os.path.getsize(path) - header.size
        if held < header.num_bytes:
            raise ValueError(f"its array of shape {header.shape} is cut short: {held} of {header.num_bytes} bytes")
        if header.num_bytes == 0:
            return np.zeros(header.shape, header.dtype)
        return np.memmap(path, header.dtype, "r", offset=header.size, shape=header.shape, order=header.order)
    except Exception as error:  # a damaged header fails in many ways, and all of them are this file's fault
        raise RecordingError("unreadable", f"{path}: wanted a complete numeric .npy array; {clipped(error)}") from error


def parse_npy_header(head: bytes) -> NpyHeader:
    """The header at the beginning of `head`, which NumPy parses; from bytes, so that no length of its own is believed.

    Raises ValueError and others for what is no header, and for arrays of Python objects, which would be unpickled.
    """
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"wanted version 1 or 2 of the .npy format, got {version}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    if any(length < 0 for length in shape):
        raise ValueError(f"wanted a shape, got {shape}")
    return NpyHeader(shape=shape, order="F" if fortran_order else "C", dtype=dtype, size=stream.tell())
