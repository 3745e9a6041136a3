"""Undo XLI, the compression of Philips ECGs: second differences, split into high and low bytes, packed by 10-bit LZW.

A lead is a chunk: its length in bytes (int32), two bytes of unknown use, the first difference (int16), then the codes,
most significant bit first, all numbers little-endian. As the sierraecg package has found out.
"""

import struct

import numpy as np

from hubert_ecg.errors import RecordingError

_CHUNK_HEADER = struct.Struct("<i2xh")
_CODE_BITS = 10
_LAST_CODE = (1 << _CODE_BITS) - 2
"""The code above it ends a chunk."""

_DIFFERENCE_BIAS = 64
_LARGEST_EXPANSION = 16
_SMALLEST_BOUND = 1 << 20
"""Any file may unpack to this many bytes, 12 flat leads of 87 s at 500 Hz; a larger one to its packed bytes times the
expansion, where real ones reach 10."""


def decode_xli(content: bytes, num_leads: int, num_samples: int, what: str) -> np.ndarray:
    """The first `num_samples` of the first `num_leads` chunks, [lead, time] float64, as the file counts.

    Raises RecordingError (`truncated`) where there are fewer, (`unreadable`) where the codes make no sense; `what`
    names the file.
    """
    bound = max(_SMALLEST_BOUND, _LARGEST_EXPANSION * len(content))
    if 2 * num_leads * num_samples > bound:
        raise RecordingError("truncated", f"{what}: {len(content)} bytes cannot hold {num_samples} samples per lead")
    rows = []
    offset = 0
    for lead in range(num_leads):
        if offset + _CHUNK_HEADER.size > len(content):
            raise RecordingError("truncated", f"{what}: wanted {num_leads} compressed leads, got {lead}")
        size, start = _CHUNK_HEADER.unpack_from(content, offset)
        offset += _CHUNK_HEADER.size
        if not 0 <= size <= len(content) - offset:
            raise RecordingError("truncated", f"{what}: lead {lead + 1} of {num_leads} ends after the file; got {size}")
        unpacked = _unpack_lzw(content[offset : offset + size], bound // num_leads, what)
        row = _undo_differences(unpacked, start, what)
        if row.size < num_samples:
            raise RecordingError("truncated", f"{what}: wanted {num_samples} samples per lead, got {row.size}")
        rows.append(row[:num_samples])
        offset += size
    return np.stack(rows).astype(np.float64)


def _unpack_lzw(packed: bytes, max_bytes: int, what: str) -> bytes:
    """LZW with codes of a fixed width and a dictionary that stays as it is once full."""
    strings = [bytes([value]) for value in range(256)]
    previous, pieces, num_bytes = b"", [], 0
    for code in _codes(packed):
        if code > _LAST_CODE:
            break
        if code < len(strings):
            string = strings[code]
        elif code == len(strings) and previous:
            string = previous + previous[:1]
        else:
            raise RecordingError("unreadable", f"{what}: code {code} of the compressed samples is not defined yet")
        if previous and len(strings) <= _LAST_CODE:
            strings.append(previous + string[:1])
        pieces.append(string)
        previous = string
        num_bytes += len(string)
        if num_bytes > max_bytes:
            raise RecordingError("unreadable", f"{what}: a compressed lead unpacks to more than {max_bytes} bytes")
    return b"".join(pieces)


def _codes(packed: bytes) -> list[int]:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    whole = bits[: bits.size // _CODE_BITS * _CODE_BITS].reshape(-1, _CODE_BITS)
    return (whole @ (1 << np.arange(_CODE_BITS - 1, -1, -1, dtype=np.int16))).tolist()


def _undo_differences(unpacked: bytes, start: int, what: str) -> np.ndarray:
    """[time] int32. The first half of the bytes are the high ones. Two samples stand as they are; behind them stands,
    for each sample, the change of slope that leads to the next one."""
    high, low = np.frombuffer(unpacked + b"\0" * (len(unpacked) % 2), np.uint8).reshape(2, -1)
    samples = ((high.astype(np.uint16) << 8) | low).view(np.int16).astype(np.int32)
    if samples.size < 2:
        return samples
    samples[3:] = _DIFFERENCE_BIAS - samples[2:-1]
    samples[2:3] = -start
    samples[1] -= samples[0]
    # Sums may run over 32 bits on the way and come out right, for what they come to has 16.
    np.cumsum(samples[1:], out=samples[1:])
    np.cumsum(samples, out=samples)
    if samples.min() < -0x8000 or samples.max() > 0x7FFF:
        raise RecordingError("unreadable", f"{what}: compressed samples go beyond 16 bits")
    return samples
