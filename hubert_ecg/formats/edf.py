"""Read EDF, EDF+ and BDF, decoded by NumPy from their fixed layout; names and dates are never looked at.

Specifications: https://www.edfplus.info/specs/edf.html, edfplus.html and https://www.biosemi.com/faq/file_format.htm.
"""

import math
import os
import re
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.leads import signed_lead
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.bounded import clipped
from hubert_ecg.formats.voltage import mv_per_unit

_HEADER_BYTES = 256
_SIGNAL_FIELD_BYTES = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Label, transducer, unit, physical minimum and maximum, digital minimum and maximum, filters, samples, reserved."""
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_ECG_LABEL = re.compile(r"(?:ecg|ekg)\b", re.IGNORECASE)
_ONSET = re.compile(rb"([+-]\d{1,12}(?:\.\d{1,12})?)\x14")
_SEX = {"F": "female", "M": "male"}
_MAX_GAP_FACTOR = 16
"""An interrupted recording may be this many times as long as what was recorded of it."""


@dataclass(frozen=True, kw_only=True)
class _Signal:
    label: str
    unit: str
    physical_range: tuple[float, float]
    digital_range: tuple[int, int]
    samples_per_record: int
    first_byte: int
    """Where it begins within a data record."""


@dataclass(frozen=True, kw_only=True)
class _Header:
    bytes_per_sample: int
    size: int
    """Bytes before the first data record."""
    num_records: int
    record_duration_s: float
    record_bytes: int
    signals: tuple[_Signal, ...]
    interrupted: bool
    """EDF+D or BDF+D: data records need not follow one another without a gap."""
    patient_id: str | None
    sex: str | None


def read_edf(path: str, *, record_id: str | None = None) -> Recording:
    """The leads of a file in mV: signals labelled as one of the 12, or failing those as an ECG. Gaps are NaN.

    Raises RecordingError: `missing file`, `unreadable`, `truncated`, `missing leads`, `unknown unit`, `mixed sampling
    rates`, `too large` (its gaps exceed what was recorded by far).
    """
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file; check the data set's folder")
    header = _read_header(path)
    leads = _leads(header, path)
    records = _read_records(path, header)
    starts = _record_starts(records, header, leads[0], path)
    samples = np.full((len(leads), starts[-1] + leads[0].samples_per_record), np.nan, np.float32)
    for row, lead in zip(samples, leads, strict=True):
        _place(_lead_in_mv(records, header, lead, path), starts, out=row)
    return Recording(
        samples=samples,
        sampling_rate_hz=leads[0].samples_per_record / header.record_duration_s,
        lead_names=tuple(lead.label for lead in leads),
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
        patient_id=header.patient_id,
        sex=header.sex,
    )


def _read_header(path: str) -> _Header:
    try:
        with open(path, "rb") as file:
            fixed = file.read(_HEADER_BYTES)
            if len(fixed) < _HEADER_BYTES or fixed[:8] not in (b"0       ", b"\xffBIOSEMI"):
                raise ValueError("it does not begin as one")
            num_signals = _integer(fixed[252:256], "number of signals")
            if not 1 <= num_signals <= 9999:
                raise ValueError(f"wanted 1 to 9999 signals, got {num_signals}")
            described = file.read(_HEADER_BYTES * num_signals)
        return _parse_header(fixed, described, num_signals, os.path.getsize(path))
    except EOFError as error:
        raise RecordingError("truncated", f"{path}: {error}; fetch the file again") from error
    except ValueError as error:
        raise RecordingError("unreadable", f"{path}: wanted an EDF or BDF header; {clipped(error)}") from error


def _parse_header(fixed: bytes, described: bytes, num_signals: int, file_size: int) -> _Header:
    """Raises EOFError where the file is shorter than its header says, ValueError for what makes no sense."""
    bytes_per_sample = 3 if fixed[0] == 0xFF else 2
    size = _HEADER_BYTES * (1 + num_signals)
    if len(described) < size - _HEADER_BYTES:
        raise EOFError(f"wanted a header of {size} bytes, got {file_size}")
    signals, record_bytes = _parse_signals(described, num_signals, bytes_per_sample)
    num_records = _integer(fixed[236:244], "number of data records")
    held = (file_size - size) // record_bytes
    # A recorder that was switched off early leaves -1.
    num_records = held if num_records == -1 else num_records
    if num_records > held:
        raise EOFError(f"wanted {num_records} data records of {record_bytes} bytes, got {held}")
    if num_records < 1:
        raise ValueError(f"wanted at least one data record, got {num_records}")
    duration_s = _number(fixed[244:252], "duration of a data record")
    if not duration_s > 0:
        raise ValueError(f"wanted data records longer than 0 s, got {duration_s:g}")
    extended = fixed[192:197] in (b"EDF+C", b"EDF+D", b"BDF+C", b"BDF+D")
    patient_id, sex = _patient(fixed[8:88]) if extended else (None, None)
    return _Header(
        bytes_per_sample=bytes_per_sample,
        size=size,
        num_records=num_records,
        record_duration_s=duration_s,
        record_bytes=record_bytes,
        signals=signals,
        interrupted=fixed[192:197] in (b"EDF+D", b"BDF+D"),
        patient_id=patient_id,
        sex=sex,
    )


def _parse_signals(described: bytes, num_signals: int, bytes_per_sample: int) -> tuple[tuple[_Signal, ...], int]:
    """The signals and the bytes of a data record. All values of a field stand together, one per signal."""
    fields, at = [], 0
    for width in _SIGNAL_FIELD_BYTES:
        fields.append([described[at + width * k : at + width * (k + 1)] for k in range(num_signals)])
        at += width * num_signals
    labels, _, units, low, high, digital_low, digital_high, _, counts, _ = fields
    signals, first_byte = [], 0
    for k in range(num_signals):
        count = _integer(counts[k], "samples of a data record")
        if count < 0:
            raise ValueError(f"wanted at least 0 samples in a data record, got {count}")
        label = labels[k].decode("latin-1").strip()
        is_signal = label not in _ANNOTATIONS
        signals.append(
            _Signal(
                label=label,
                unit=units[k].decode("latin-1").strip(),
                physical_range=_pair(low[k], high[k]) if is_signal else (0.0, 0.0),
                digital_range=_whole_pair(digital_low[k], digital_high[k]) if is_signal else (0, 0),
                samples_per_record=count,
                first_byte=first_byte,
            )
        )
        first_byte += count * bytes_per_sample
    if first_byte == 0:
        raise ValueError("its data records hold no samples")
    return tuple(signals), first_byte


def _pair(low: bytes, high: bytes) -> tuple[float, float]:
    return _number(low, "physical minimum"), _number(high, "physical maximum")


def _whole_pair(low: bytes, high: bytes) -> tuple[int, int]:
    return _integer(low, "digital minimum"), _integer(high, "digital maximum")


def _integer(field: bytes, name: str) -> int:
    try:
        return int(field.decode("ascii"))
    except ValueError:
        raise ValueError(f"{name}: wanted a whole number, got {field[:20]!r}") from None


def _number(field: bytes, name: str) -> float:
    try:
        value = float(field.decode("ascii"))
    except ValueError:
        raise ValueError(f"{name}: wanted a number, got {field[:20]!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{name}: wanted a finite number, got {value}")
    return value


def _patient(field: bytes) -> tuple[str | None, str | None]:
    """The hospital's code and the sex, the first two subfields of EDF+; birth date and name are skipped."""
    subfields = field.decode("latin-1").split(" ")
    code, sex = (subfields[0], subfields[1]) if len(subfields) >= 4 else ("X", "X")
    return (None if code in ("", "X") else code), _SEX.get(sex)


def _leads(header: _Header, path: str) -> list[_Signal]:
    """The signals to read, all at one rate."""
    signals = [s for s in header.signals if s.label not in _ANNOTATIONS and s.samples_per_record]
    leads = [s for s in signals if signed_lead(s.label)[0]] or [s for s in signals if _ECG_LABEL.match(s.label)]
    if not leads:
        raise RecordingError(
            "missing leads", f"{path}: wanted signals labelled as ECG leads, got {[s.label for s in signals][:15]}"
        )
    rates = sorted({lead.samples_per_record / header.record_duration_s for lead in leads})
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g}" for rate in rates)
        raise RecordingError(
            "mixed sampling rates", f"{path}: wanted all leads at one rate, got {shown} Hz; resample them first"
        )
    return leads


def _read_records(path: str, header: _Header) -> np.ndarray:
    """[record, byte] uint8."""
    content = np.fromfile(path, np.uint8, count=header.num_records * header.record_bytes, offset=header.size)
    return content.reshape(header.num_records, header.record_bytes)


def _record_starts(records: np.ndarray, header: _Header, lead: _Signal, path: str) -> np.ndarray:
    """[record] int64: the sample at which each data record begins, from 0 on."""
    per_record = lead.samples_per_record
    if not header.interrupted:
        return np.arange(header.num_records) * per_record
    onsets_s = _onsets_s(records, header, path)
    starts = np.rint((onsets_s - onsets_s[0]) * per_record / header.record_duration_s).astype(np.int64)
    if (np.diff(starts) < per_record - 1).any():
        raise RecordingError("unreadable", f"{path}: wanted data records one after the other, got some that overlap")
    if starts[-1] > _MAX_GAP_FACTOR * header.num_records * per_record:
        raise RecordingError(
            "too large",
            f"{path}: wanted at most {_MAX_GAP_FACTOR} times as long as what was recorded, got "
            f"{starts[-1] // (header.num_records * per_record)} times with its gaps; cut it at the gaps",
        )
    return starts


def _onsets_s(records: np.ndarray, header: _Header, path: str) -> np.ndarray:
    """[record] float64: when each began, which the first annotation of each says."""
    notes = next((s for s in header.signals if s.label in _ANNOTATIONS), None)
    if notes is None:
        raise RecordingError("unreadable", f"{path}: wanted annotations that say when each data record began, got none")
    end = notes.first_byte + notes.samples_per_record * header.bytes_per_sample
    matches = [_ONSET.match(record[notes.first_byte : end].tobytes()) for record in records]
    if not all(matches):
        raise RecordingError("unreadable", f"{path}: wanted the onset of every data record, some have none")
    return np.array([float(match[1]) for match in matches if match])


def _lead_in_mv(records: np.ndarray, header: _Header, lead: _Signal, path: str) -> np.ndarray:
    """[record, time] float32 mV."""
    scale = mv_per_unit(lead.unit)
    if scale is None:
        raise RecordingError("unknown unit", f"{path}: lead {lead.label}: wanted mV, uV or V, got {lead.unit!r}")
    (low, high), (digital_low, digital_high) = lead.physical_range, lead.digital_range
    if digital_low >= digital_high or low == high:
        raise RecordingError(
            "unreadable",
            f"{path}: lead {lead.label}: wanted two different values at its digital ends, got {low:g} at "
            f"{digital_low} and {high:g} at {digital_high}",
        )
    per_step = (high - low) / (digital_high - digital_low)
    steps = _steps(records, header, lead)
    with np.errstate(over="ignore"):
        samples = ((low + (steps - float(digital_low)) * per_step) * scale).astype(np.float32)
    if np.isinf(samples).any():
        raise RecordingError("unreadable", f"{path}: lead {lead.label}: its range makes infinite samples")
    return samples


def _steps(records: np.ndarray, header: _Header, lead: _Signal) -> np.ndarray:
    """[record, time] integers of 16 bits (EDF) or 24 bits (BDF), both signed and little-endian."""
    end = lead.first_byte + lead.samples_per_record * header.bytes_per_sample
    content = np.ascontiguousarray(records[:, lead.first_byte : end])
    if header.bytes_per_sample == 2:
        return content.view("<i2")
    words = np.zeros((*content.shape[:1], lead.samples_per_record, 4), np.uint8)
    words[:, :, 1:] = content.reshape(len(content), -1, 3)
    return words.view("<i4")[:, :, 0] >> 8


def _place(rows: np.ndarray, starts: np.ndarray, *, out: np.ndarray) -> None:
    """Write each data record [record, time] where it begins in `out` [time]."""
    if starts[-1] == (len(rows) - 1) * rows.shape[1]:
        out[:] = rows.reshape(-1)
        return
    for start, row in zip(starts, rows, strict=True):
        out[start : start + len(row)] = row
