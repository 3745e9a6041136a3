"""Read a single-segment WFDB record: a .hea header and its .dat or .mat signal files, in mV.

The header is parsed here rather than by the wfdb package, which refuses some published headers for their record name or
date and takes 5 ms for each. Times and dates are skipped on purpose: they identify people. Format 16, in which nearly
all ECG archives are written, is decoded here too; every other format by the wfdb package.
Format: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
"""

import math
import os
import re
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.errors import RecordingError

_MV_PER_UNIT = {"": 1.0, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
_BYTES_PER_SAMPLE = {
    "8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "212": 1.5, "310": 4 / 3, "311": 4 / 3, "24": 3.0, "32": 4.0
}  # fmt: skip
_FLAC_FORMATS = ("508", "516", "524")
_MAX_FLAC_SAMPLES_PER_BYTE = 4096
"""A FLAC block of one constant value cannot be packed tighter, so a header that promises more is damaged."""
_DEFAULT_GAIN = 200.0
_DEFAULT_SAMPLING_RATE_HZ = 250.0
_INVALID_SAMPLE = -32768
"""Format 16's mark for "nothing recorded"."""

_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?", re.ASCII)
_GAIN = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(.*))?", re.ASCII)
_AGE = re.compile(r"<?age>?\s*[:=]\s*(>?)\s*(\d+(?:\.\d+)?)", re.IGNORECASE | re.ASCII)
_SEX = re.compile(r"<?(?:sex|gender)>?\s*[:=]\s*(f|m|female|male)\b", re.IGNORECASE)
_OLDEST_AGE_YEARS = 120.0


@dataclass(frozen=True, kw_only=True)
class _Signal:
    """One signal line: where a lead's samples lie and how they become mV."""

    file_name: str
    format: str
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    unit: str
    name: str


@dataclass(frozen=True, kw_only=True)
class _Header:
    sampling_rate_hz: float
    num_samples: int | None
    signals: tuple[_Signal, ...]
    comments: tuple[str, ...]


def read_wfdb(header_path: str, *, record_id: str | None = None) -> Recording:
    """The record of a .hea file in mV, lead names as the header spells them, age and sex from its comments.

    Signals that are neither a standard lead nor a voltage (respiration, say) are left out.

    Raises RecordingError: `missing file`, `truncated` (a signal file is shorter than the header says), `unreadable`,
    `unknown unit`.
    """
    if not os.path.isfile(header_path):
        raise RecordingError("missing file", f"{header_path}: no such file; a WFDB record needs its .hea header")
    header = _read_header(header_path)
    folder = os.path.dirname(header_path)
    num_samples = _check_signal_files(header, folder, header_path)
    plain = all(s.format == "16" and s.samples_per_frame == 1 and s.skew == 0 for s in header.signals)
    physical = _read_format_16(header, folder, num_samples) if plain else _read_with_wfdb(header_path)
    rows, names = _leads_in_mv(header, physical, header_path)
    age_years, sex = _age_and_sex(header.comments)
    return Recording(
        samples=rows,
        sampling_rate_hz=header.sampling_rate_hz,
        lead_names=names,
        record_id=record_id or os.path.splitext(os.path.basename(header_path))[0],
        age_years=age_years,
        sex=sex,
    )


def _read_header(path: str) -> _Header:
    try:
        with open(path, "rb") as file:
            content = file.read()
        return _parse_header(_decode(content))
    except (OSError, ValueError) as error:
        raise RecordingError("unreadable", f"{path}: wanted a WFDB header; {error}") from error


def _decode(content: bytes) -> str:
    """The micro sign of µV is the one character beyond ASCII that matters, and archives hold it in either encoding."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _parse_header(text: str) -> _Header:
    """Raises ValueError, whose message says what does not fit."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise ValueError("it is empty")
    fields = lines[0].split()
    if re.search(r"/\d+$", fields[0]):
        raise ValueError("it has several segments; split it into records of one segment")
    num_signals = int(fields[1]) if len(fields) > 1 else 0
    sampling_rate_hz = float(re.split(r"[/(]", fields[2])[0]) if len(fields) > 2 else _DEFAULT_SAMPLING_RATE_HZ
    if not (0 < sampling_rate_hz < math.inf):
        raise ValueError(f"wanted a sampling rate above 0 Hz, got {fields[2]}")
    num_samples = int(fields[3]) if len(fields) > 3 else 0
    if not 0 < num_signals <= len(lines) - 1:
        raise ValueError(f"it promises {num_signals} signals and describes {len(lines) - 1}")
    return _Header(
        sampling_rate_hz=sampling_rate_hz,
        num_samples=num_samples or None,
        signals=tuple(_parse_signal(line) for line in lines[1 : num_signals + 1]),
        comments=comments,
    )


def _parse_signal(line: str) -> _Signal:
    fields = line.split(maxsplit=8)
    form = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    gain = _GAIN.fullmatch(fields[2]) if len(fields) > 2 else _GAIN.fullmatch("0")
    if form is None or gain is None:
        raise ValueError(f"this signal line does not follow the format: {line[:120]!r}")
    if os.path.basename(fields[0]) != fields[0] or fields[0] in ("", ".", "..", "~"):
        raise ValueError(f"wanted a signal file beside the header, got {fields[0][:120]!r}")
    adc_zero = int(fields[4]) if len(fields) > 4 else 0
    gain_per_unit = float(gain[1]) or _DEFAULT_GAIN
    if not math.isfinite(gain_per_unit):
        raise ValueError(f"wanted a finite gain, got {gain[1][:40]}")
    return _Signal(
        file_name=fields[0],
        format=form[1],
        samples_per_frame=int(form[2] or 1),
        skew=int(form[3] or 0),
        byte_offset=int(form[4] or 0),
        gain=gain_per_unit,
        baseline=adc_zero if gain[2] is None else int(gain[2]),
        unit=gain[3] or "",
        name=fields[8] if len(fields) > 8 else "",
    )


def _check_signal_files(header: _Header, folder: str, header_path: str) -> int:
    """Samples per lead, after seeing that every signal file holds them: nothing is allocated on the header's word."""
    num_samples = header.num_samples
    for file_name, signals in _by_file(header.signals).items():
        path = os.path.join(folder, file_name)
        if not os.path.isfile(path):
            raise RecordingError("missing file", f"{path}: no such file, though {header_path} names it")
        first = signals[0]
        frame = sum(s.samples_per_frame for s in signals)
        size = os.path.getsize(path) - first.byte_offset
        if any(s.format != first.format or s.samples_per_frame < 1 for s in signals):
            raise RecordingError("unreadable", f"{header_path}: the lines of {file_name} contradict one another")
        if first.format in _FLAC_FORMATS and num_samples is not None:
            held = size * _MAX_FLAC_SAMPLES_PER_BYTE // frame
        elif first.format in _BYTES_PER_SAMPLE:
            held = int(size / (_BYTES_PER_SAMPLE[first.format] * frame))
        else:
            raise RecordingError(
                "unreadable", f"{header_path}: wanted a known signal format and length, got {first.format}"
            )
        num_samples = held if num_samples is None else num_samples
        if held < num_samples:
            raise RecordingError(
                "truncated",
                f"{path}: wanted {num_samples} samples per lead, as {os.path.basename(header_path)} says, got "
                f"{max(held, 0)}; fetch the file again",
            )
        if any(s.skew > num_samples for s in signals):
            raise RecordingError(
                "unreadable", f"{header_path}: a skew is longer than the record of {num_samples} samples"
            )
    if not num_samples or num_samples < 0:
        raise RecordingError("unreadable", f"{header_path}: the record holds no samples")
    return num_samples


def _by_file(signals: tuple[_Signal, ...]) -> dict[str, list[_Signal]]:
    groups: dict[str, list[_Signal]] = {}
    for signal in signals:
        groups.setdefault(signal.file_name, []).append(signal)
    return groups


def _read_format_16(header: _Header, folder: str, num_samples: int) -> np.ndarray:
    """Physical units [signal, time] float64, NaN where the file marks nothing recorded."""
    columns = {
        file_name: iter(
            np.fromfile(
                os.path.join(folder, file_name),
                dtype="<i2",
                count=num_samples * len(signals),
                offset=signals[0].byte_offset,
            )
            .reshape(num_samples, len(signals))
            .T
        )
        for file_name, signals in _by_file(header.signals).items()
    }
    raw = np.stack([next(columns[s.file_name]) for s in header.signals])
    baseline = np.array([[s.baseline] for s in header.signals], dtype=np.float64)
    gain = np.array([[s.gain] for s in header.signals], dtype=np.float64)
    with np.errstate(over="ignore"):
        physical = (raw - baseline) / gain
    physical[raw == _INVALID_SAMPLE] = np.nan
    return physical


def _read_with_wfdb(header_path: str) -> np.ndarray:
    """Physical units [signal, time] float64, decoded by the wfdb package."""
    import wfdb

    try:
        record = wfdb.rdrecord(os.path.splitext(header_path)[0])
        return np.asarray(record.p_signal, dtype=np.float64).T
    except Exception as error:  # a damaged file makes the package fail in many ways, and all are this file's fault
        raise RecordingError("unreadable", f"{header_path}: the wfdb package cannot decode it; {error}") from error


def _leads_in_mv(header: _Header, physical: np.ndarray, header_path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    standard = {lead.lower() for lead in STANDARD_LEADS}
    kept, scales = [], []
    for row, signal in enumerate(header.signals):
        scale = _MV_PER_UNIT.get(signal.unit.lower())
        if scale is not None:
            kept.append(row)
            scales.append(scale)
        elif signal.name.strip().lower() in standard:
            raise RecordingError(
                "unknown unit", f"{header_path}: lead {signal.name}: wanted mV, uV or V, got {signal.unit!r}"
            )
    with np.errstate(over="ignore"):
        samples = (physical[kept] * np.array(scales).reshape(-1, 1)).astype(np.float32)
    if np.isinf(samples).any():
        raise RecordingError("unreadable", f"{header_path}: its gains make infinite samples; correct the header")
    return samples, tuple(header.signals[row].name.strip() for row in kept)


def _age_and_sex(comments: tuple[str, ...]) -> tuple[float | None, str | None]:
    """From comments such as `Age: 74` and `<sex>: F`. `>89` is read as 90, ages over 120 as unknown."""
    age_years: float | None = None
    sex: str | None = None
    for comment in comments:
        if age := _AGE.match(comment):
            value = float(age[2]) + (1.0 if age[1] else 0.0)
            age_years = value if value <= _OLDEST_AGE_YEARS else None
        elif match := _SEX.match(comment):
            sex = "female" if match[1].lower().startswith("f") else "male"
    return age_years, sex
