"""Parse a WFDB header (.hea): its record line, signal or segment lines, and the age, sex and pacing in its comments.

It is parsed here rather than by the wfdb package, which refuses some published headers for their record name or date
and takes 5 ms for each. Times and dates are skipped on purpose: they identify people.
Format: https://physionet.org/physiotools/wag/header-5.htm.
"""

import math
import os
import re
from dataclasses import dataclass

from hubert_ecg.ecg.recording import HIGHEST_RATE_HZ
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.bounded import clipped

_DEFAULT_GAIN = 200.0
_DEFAULT_SAMPLING_RATE_HZ = 250.0
_MAX_HEADER_BYTES = 4 << 20
_MAX_INTEGER = 1 << 40
_LOWEST_FRAME_RATE_HZ = 1e-3

NO_FILE = "~"
"""Stands for a signal of a layout, which has no samples, and for a segment in which nothing was recorded."""

_FORMAT = re.compile(r"(\d{1,9})(?:x(\d{1,12}))?(?::(\d{1,12}))?(?:\+(\d{1,12}))?", re.ASCII)
_GAIN = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?:\(([-+]?\d{1,18})\))?(?:/(.*))?", re.ASCII)
_AGE = re.compile(r"<?age>?\s*[:=]\s*(>?) ?(\d+(?:\.\d+)?)", re.IGNORECASE | re.ASCII)
_SEX = re.compile(r"<?(?:sex|gender)>?\s*[:=]\s*(f|m|female|male)\b", re.IGNORECASE)
_OLDEST_AGE_YEARS = 120.0
_PACING = re.compile(
    r"(?:(?:uni|bi)polar )?(?:(?:atrial|ventricular|biventricular) )?pacing(?: rhythm)?[. ]*", re.IGNORECASE
)
_DIAGNOSES = re.compile(r"Dx\s*:", re.IGNORECASE)
_PACING_CODES = {"10370003", "251266004", "251268003"}
"""SNOMED CT: pacing rhythm, ventricular pacing pattern, atrial pacing pattern."""


@dataclass(frozen=True, kw_only=True)
class WfdbSignal:
    """One signal line: where a lead's samples lie and how they become physical units."""

    file_name: str
    format: str
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    """Steps per physical unit."""
    baseline: int
    """The step that means 0 physical units."""
    unit: str
    initial_value: int
    name: str


@dataclass(frozen=True, kw_only=True)
class WfdbHeader:
    """What a header says. Either `signals` or, in a record of several segments, `segments` is filled."""

    frame_rate_hz: float
    num_frames: int | None
    """Length of the record; None where the header leaves it to the files."""
    signals: tuple[WfdbSignal, ...]
    segments: tuple[tuple[str, int], ...]
    """(record name or NO_FILE, frames) of each segment."""
    comments: tuple[str, ...]


def read_header(path: str) -> WfdbHeader:
    """Raises RecordingError: `missing file`, `unreadable`."""
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file; a WFDB record needs its .hea header")
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_HEADER_BYTES)
        return parse_header(_decode(content))
    except (OSError, ValueError) as error:
        raise RecordingError("unreadable", f"{path}: wanted a WFDB header; {clipped(error)}") from error


def parse_header(text: str) -> WfdbHeader:
    """Raises ValueError, whose message says what does not fit."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise ValueError("it is empty")
    fields = lines[0].split()
    num_segments = re.search(r"/(\d{1,9})$", fields[0], re.ASCII)
    num_signals = _integer(fields[1]) if len(fields) > 1 else 0
    frame_rate_hz = _frame_rate_hz(fields[2]) if len(fields) > 2 else _DEFAULT_SAMPLING_RATE_HZ
    num_frames = _integer(fields[3]) if len(fields) > 3 else 0
    if num_frames < 0:
        raise ValueError(f"wanted a length of at least 0 samples, got {num_frames}")
    wanted = int(num_segments[1]) if num_segments else num_signals
    if not 0 < wanted <= len(lines) - 1:
        kind = "segments" if num_segments else "signals"
        raise ValueError(f"it promises {wanted} {kind} and describes {len(lines) - 1}")
    described = lines[1 : wanted + 1]
    return WfdbHeader(
        frame_rate_hz=frame_rate_hz,
        num_frames=num_frames or None,
        signals=() if num_segments else tuple(_parse_signal(line) for line in described),
        segments=tuple(_parse_segment(line) for line in described) if num_segments else (),
        comments=comments,
    )


def age_and_sex(comments: tuple[str, ...]) -> tuple[float | None, str | None]:
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


def states_pacing(comments: tuple[str, ...]) -> bool:
    """Whether a comment is a statement of pacing as LUDB's are, or holds the PhysioNet Challenge's SNOMED code of one.

    A wandering atrial pacemaker is the heart's own.
    """
    return any(
        _PACING.fullmatch(comment) or (_DIAGNOSES.match(comment) and _PACING_CODES & set(re.findall(r"\d+", comment)))
        for comment in comments
    )


def _decode(content: bytes) -> str:
    """The micro sign of µV is the one character beyond ASCII that matters, and archives hold it in either encoding."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _frame_rate_hz(field: str) -> float:
    rate = float(re.split(r"[/(]", field)[0])
    if not _LOWEST_FRAME_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise ValueError(
            f"wanted a frame rate of {_LOWEST_FRAME_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz, got {field[:40]}"
        )
    return rate


def _parse_signal(line: str) -> WfdbSignal:
    fields = line.split(maxsplit=8)
    form = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    gain = _GAIN.fullmatch(fields[2]) if len(fields) > 2 else _GAIN.fullmatch("0")
    if form is None or gain is None:
        raise ValueError(f"this signal line does not follow the format: {line[:120]!r}")
    adc_zero = _integer(fields[4]) if len(fields) > 4 else 0
    gain_per_unit = float(gain[1]) or _DEFAULT_GAIN
    if not math.isfinite(gain_per_unit):
        raise ValueError(f"wanted a finite gain, got {gain[1][:40]}")
    return WfdbSignal(
        file_name=_name_beside(fields[0]),
        format=form[1],
        samples_per_frame=int(form[2] or 1),
        skew=int(form[3] or 0),
        byte_offset=int(form[4] or 0),
        gain=gain_per_unit,
        baseline=adc_zero if gain[2] is None else _integer(gain[2]),
        unit=gain[3] or "",
        initial_value=_integer(fields[5]) if len(fields) > 5 else 0,
        name=clipped(fields[8]) if len(fields) > 8 else "",
    )


def _parse_segment(line: str) -> tuple[str, int]:
    fields = line.split()
    if len(fields) < 2 or (frames := _integer(fields[1])) < 0:
        raise ValueError(f"this segment line does not follow the format: {line[:120]!r}")
    return _name_beside(fields[0]), frames


def _name_beside(name: str) -> str:
    """A header names files beside it, and nothing outside its folder is opened on its word."""
    if os.path.basename(name) != name or "\0" in name or name in ("", ".", ".."):
        raise ValueError(f"wanted a file beside the header, got {name[:120]!r}")
    return name


def _integer(field: str) -> int:
    value = int(field)
    if abs(value) > _MAX_INTEGER:
        raise ValueError(f"wanted a whole number below {_MAX_INTEGER}, got {field[:40]}")
    return value
