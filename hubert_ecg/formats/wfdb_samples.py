"""Decode the signal files of WFDB: all plain formats with NumPy, the FLAC ones with soundfile.

Nothing is allocated on a header's word: a file must hold what is asked of it.
Formats: https://physionet.org/physiotools/wag/signal-5.htm.
"""

import os
from collections.abc import Sequence

import numpy as np

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.bounded import clipped
from hubert_ecg.formats.wfdb_header import WfdbSignal

_BYTES_PER_SAMPLE = {
    "8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "212": 1.5, "310": 4 / 3, "311": 4 / 3, "24": 3.0, "32": 4.0
}  # fmt: skip
_DTYPES = {"8": "<i1", "80": "<u1", "16": "<i2", "61": ">i2", "160": "<u2", "32": "<i4"}
_FLAC_BITS = {"508": 8, "516": 16, "524": 24}
_SUBTYPE_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
_BITS = {
    "80": 8,
    "16": 16,
    "61": 16,
    "160": 16,
    "212": 12,
    "310": 10,
    "311": 10,
    "24": 24,
    "32": 32,
} | _FLAC_BITS

_MAX_FLAC_SAMPLES_PER_BYTE = 64
_FREE_FLAC_SAMPLES = 1 << 20
"""FLAC packs constant signals without limit; ECGs stay far below this ratio, and small files may be anything."""


def frames_in_file(path: str, signals: Sequence[WfdbSignal], num_frames: int | None, header_path: str) -> int:
    """Frames to read from a signal file: what the header says, after seeing that the file holds them.

    `signals` are all that lie in this file. Raises RecordingError: `missing file`, `truncated`, `unreadable`.
    """
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file, though {header_path} names it")
    first = signals[0]
    per_frame = sum(signal.samples_per_frame for signal in signals)
    if any(s.format != first.format or s.samples_per_frame < 1 for s in signals):
        raise RecordingError("unreadable", f"{header_path}: the lines of {first.file_name} contradict one another")
    size = os.path.getsize(path)
    if first.format in _FLAC_BITS and num_frames is not None:
        held = (_FREE_FLAC_SAMPLES + size * _MAX_FLAC_SAMPLES_PER_BYTE) // per_frame
    elif first.format in _BYTES_PER_SAMPLE:
        held = int((size - first.byte_offset) / (_BYTES_PER_SAMPLE[first.format] * per_frame))
    else:
        raise RecordingError(
            "unreadable", f"{header_path}: wanted a known signal format and length, got format {first.format}"
        )
    wanted = held if num_frames is None else num_frames
    if held < wanted:
        raise RecordingError("truncated", _truncated(path, wanted, max(held, 0)))
    if wanted < 1:
        raise RecordingError("unreadable", f"{header_path}: the record holds no samples")
    if any(signal.skew > wanted for signal in signals):
        raise RecordingError("unreadable", f"{header_path}: a skew is longer than the record of {wanted} samples")
    return wanted


def read_signals(path: str, signals: Sequence[WfdbSignal], num_frames: int) -> list[np.ndarray]:
    """The steps of each signal of one file. -> per signal [num_frames * samples_per_frame] integers.

    Signals recorded later than the first are moved back by their skew; the frames that then lack are marked as invalid.
    """
    first = signals[0]
    per_frame = sum(signal.samples_per_frame for signal in signals)
    if first.format in _FLAC_BITS:
        rows = _read_flac(path, signals, num_frames)
    else:
        flat = _decode(path, first.format, first.byte_offset, num_frames * per_frame)
        rows = _split_frames(flat.reshape(num_frames, per_frame), signals)
    if first.format == "8":
        rows = [row.cumsum(dtype=np.int64) + signal.initial_value for row, signal in zip(rows, signals, strict=True)]
    return [_without_skew(row, signal) for row, signal in zip(rows, signals, strict=True)]


def invalid_step(format: str) -> int:
    """The step that marks "nothing recorded": the lowest one. Format 8 has none, and gets one that it never reaches."""
    return -(1 << 62) if format == "8" else -(1 << (_BITS[format] - 1))


def _split_frames(frames: np.ndarray, signals: Sequence[WfdbSignal]) -> list[np.ndarray]:
    rows, column = [], 0
    for signal in signals:
        width = signal.samples_per_frame
        rows.append(frames[:, column] if width == 1 else frames[:, column : column + width].reshape(-1))
        column += width
    return rows


def _without_skew(row: np.ndarray, signal: WfdbSignal) -> np.ndarray:
    if signal.skew == 0:
        return row
    late = signal.skew * signal.samples_per_frame
    return np.concatenate([row[late:], np.full(late, invalid_step(signal.format), row.dtype)])


def _decode(path: str, format: str, offset: int, count: int) -> np.ndarray:
    """`count` steps of a plain format from a byte offset on. -> [count] integers."""
    if format in _DTYPES:
        steps = np.fromfile(path, dtype=_DTYPES[format], count=count, offset=offset)
        if format == "80":
            return steps.astype(np.int16) - np.int16(128)
        return (steps ^ 0x8000).view("<i2") if format == "160" else steps
    if format == "24":
        triples = np.fromfile(path, dtype=np.uint8, count=3 * count, offset=offset).reshape(-1, 3)
        words = np.zeros((count, 4), np.uint8)
        words[:, 1:] = triples
        return words.view("<i4")[:, 0] >> 8
    samples_per_block, bytes_per_block = (2, 3) if format == "212" else (3, 4)
    num_blocks = -(-count // samples_per_block)
    content = np.fromfile(path, dtype=np.uint8, count=num_blocks * bytes_per_block, offset=offset)
    blocks = np.zeros((num_blocks, bytes_per_block), np.int32)
    blocks.reshape(-1)[: len(content)] = content
    bits = _BITS[format]
    steps = _UNPACK[format](blocks).reshape(-1)[:count]
    return (steps ^ (1 << (bits - 1))) - (1 << (bits - 1))


def _unpack_212(blocks: np.ndarray) -> np.ndarray:
    """Pairs of 12 bits in three bytes; the middle one holds the high bits of both."""
    low, middle, high = blocks.T
    return np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], axis=1)


def _unpack_310(blocks: np.ndarray) -> np.ndarray:
    """Three of 10 bits in two words of 16: two above each word's lowest bit, the third in the high bits of both."""
    first, second = blocks[:, 0] | blocks[:, 1] << 8, blocks[:, 2] | blocks[:, 3] << 8
    return np.stack([first >> 1 & 0x3FF, second >> 1 & 0x3FF, first >> 11 | second >> 11 << 5], axis=1)


def _unpack_311(blocks: np.ndarray) -> np.ndarray:
    """Three of 10 bits, one after the other in the lower 30 bits of a word of 32."""
    b0, b1, b2, b3 = blocks.T
    return np.stack([b0 | (b1 & 0x03) << 8, b1 >> 2 | (b2 & 0x0F) << 6, b2 >> 4 | (b3 & 0x3F) << 4], axis=1)


_UNPACK = {"212": _unpack_212, "310": _unpack_310, "311": _unpack_311}


def _read_flac(path: str, signals: Sequence[WfdbSignal], num_frames: int) -> list[np.ndarray]:
    """One FLAC channel per signal. The offset of these formats counts samples, not bytes."""
    import soundfile  # type: ignore[import-untyped]

    first = signals[0]
    if any(signal.samples_per_frame != first.samples_per_frame for signal in signals):
        raise RecordingError("unreadable", f"{path}: wanted the same rate for all signals of a FLAC file")
    wanted = num_frames * first.samples_per_frame
    try:
        with soundfile.SoundFile(path) as file:
            bits = _SUBTYPE_BITS.get(file.subtype, 99)
            if file.format != "FLAC" or file.channels != len(signals) or bits > _FLAC_BITS[first.format]:
                raise ValueError(
                    f"wanted FLAC of {len(signals)} channels and at most {_FLAC_BITS[first.format]} bits, got "
                    f"{file.format} {file.subtype} of {file.channels}"
                )
            if file.frames - first.byte_offset < wanted:
                raise RecordingError("truncated", _truncated(path, wanted, max(file.frames - first.byte_offset, 0)))
            file.seek(first.byte_offset)
            # libsndfile fails on very long blocks, so the channels come in pieces.
            pieces = [file.read(min(1 << 16, wanted - at), "int32", always_2d=True) for at in range(0, wanted, 1 << 16)]
    except RecordingError:
        raise
    except Exception as error:  # a damaged stream fails in several ways, and all of them are this file's fault
        raise RecordingError("unreadable", f"{path}: wanted a FLAC stream; {clipped(error)}") from error
    steps = np.concatenate(pieces) >> (32 - bits)
    if len(steps) < wanted:
        raise RecordingError("truncated", _truncated(path, wanted, len(steps)))
    return list(steps.T)


def _truncated(path: str, wanted: int, held: int) -> str:
    return f"{path}: wanted {wanted} samples per lead, as its header says, got {held}; fetch the file again"
