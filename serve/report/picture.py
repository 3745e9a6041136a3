"""A PNG without what its maker wrote beside the picture: titles, authors, times and file names stay here."""

import struct
import zlib
from collections.abc import Iterator

from hubert_ecg.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"sRGB", b"pHYs"})
"""Chunks that hold the picture, its colours and its size, and nothing in words."""


def only_picture(png: bytes) -> bytes:
    """The same picture; text, times and anything unknown are left out. Raises InputError for what is no whole PNG."""
    if not png.startswith(_SIGNATURE):
        raise InputError(f"picture: wanted a PNG, got {len(png)} bytes that begin with {png[:8]!r}; draw it again")
    chunks = list(_chunks(png))
    if not chunks or chunks[-1][0] != b"IEND":
        raise InputError(f"picture: the PNG of {len(png)} bytes ends early; draw it again")
    return _SIGNATURE + b"".join(_packed(kind, data) for kind, data in chunks if kind in _KEPT)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place + 12 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        if len(data) < length:
            return
        yield kind, data
        place += 12 + length
        if kind == b"IEND":
            return


def _packed(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
