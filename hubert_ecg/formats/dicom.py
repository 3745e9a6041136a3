"""Read a DICOM ECG waveform (12-lead, general or ambulatory): its rhythm, not its median beat, in mV.

Standard: DICOM PS3.3 C.10.9 (waveform module), PS3.16 CID 3001 (lead codes). Only the elements named here are looked
at; names and dates of people stay in the file, but for the age that they imply.
"""

import io
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.leads import canonical_lead, signed_lead
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.bounded import read_bounded
from hubert_ecg.formats.person import age_between, age_in_years, known_id, known_sex
from hubert_ecg.formats.voltage import mv_per_unit, required_mv_per_unit, to_millivolts
from hubert_ecg.formats.xml import number

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_ECG_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "general ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "ambulatory ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "general 32-bit ECG",
}
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MAX_ITEMS = 100_000
"""Sequence items of a file; pydicom turns the 8 bytes of an empty one into 700, so this many take 70 MB."""

_DTYPES = {
    (8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "i2", (16, "US"): "u2", (32, "SL"): "i4", (32, "UL"): "u4",
}  # fmt: skip
_LEADS_BY_NUMBER = dict(enumerate(("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), start=1)) | {
    61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 65: "-aVR",
}  # fmt: skip
"""Numbers that SCP-ECG and, after it, ISO 11073-10102 give to the leads."""

_LEAD_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d{1,3})", re.ASCII)
_LEAD_MEANING = re.compile(r"(?:lead )?(.+?)(?: \(.*\))?", re.IGNORECASE)
_AGE = re.compile(r"(\d{1,3})([DWMY])", re.ASCII)
_NOT_RHYTHM = re.compile(r"median|average|mean|represent|template|beat", re.IGNORECASE)


def read_dicom(path: str, *, record_id: str | None = None) -> Recording:
    """The rhythm of a DICOM ECG in mV, its channels of voltage; the patient's id, age and sex where they are given.

    Values follow the file's sensitivity, correction factor and baseline; padding becomes NaN. Findings say which
    waveform groups were left out and which channels were sampled at a moment of their own.

    Raises RecordingError: `missing file`, `too large`, `unknown format`, `unreadable`, `truncated`, `unknown unit`,
    `bad sampling rate`.
    """
    from pydicom.config import disable_value_validation

    content = read_bounded(path)
    try:
        with disable_value_validation():  # a study id that breaks the rules of its type is no reason for a warning
            return _read(_parse(content, path), path, record_id)
    except RecordingError:
        raise
    except Exception as error:  # pydicom fails in many ways on a damaged file, at each access, and all are its fault
        raise RecordingError("unreadable", f"{path}: wanted a complete DICOM ECG; {error!r:.200}") from error


def _read(dataset: "Dataset", path: str, record_id: str | None) -> Recording:
    groups = list(dataset.get("WaveformSequence") or ())
    group = _rhythm(groups, path)
    channels = list(group.get("ChannelDefinitionSequence") or ())
    raw = _raw_samples(group, len(channels), dataset.original_encoding[1] is not False, path)
    rows, samples = _leads_in_mv(raw, channels, path)
    return Recording(
        samples=samples,
        sampling_rate_hz=_sampling_rate_hz(group, path),
        lead_names=tuple(_lead_name(channels[row]) for row in rows),
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
        patient_id=known_id(_text(dataset, "PatientID")),
        age_years=_age_years(dataset),
        sex=known_sex(_text(dataset, "PatientSex")),
        findings=(*_groups_left_out(groups, group), *_skews(channels[row] for row in rows)),
    )


def _parse(content: bytes, path: str) -> "Dataset":
    """The data set, read from memory so that a length beyond the file's end costs nothing."""
    from pydicom import dcmread

    # Files written before Part 10 lack preamble and prefix and open with group 2 or 8.
    bare = content[:2] in (b"\x02\x00", b"\x08\x00")
    if content[128:132] != b"DICM" and not bare:
        raise RecordingError("unknown format", f"{path}: wanted a DICOM file, found no DICM mark at byte 128")
    if _DEFLATED in content:
        raise RecordingError("unreadable", f"{path}: deflated DICOM is not read; write it uncompressed (dcmconv +te)")
    if content.count(b"\xfe\xff\x00\xe0") + content.count(b"\xff\xfe\xe0\x00") > _MAX_ITEMS:
        raise RecordingError("unreadable", f"{path}: more than {_MAX_ITEMS} sequence items; no ECG has as many")
    dataset = dcmread(io.BytesIO(content), force=bare)
    sop_class = _text(dataset, "SOPClassUID")
    if sop_class not in _ECG_CLASSES:
        raise RecordingError(
            "unknown format",
            f"{path}: wanted one of {', '.join(_ECG_CLASSES.values())}, got SOP class {sop_class[:64] or 'none'}",
        )
    return dataset


def _rhythm(groups: list["Dataset"], path: str) -> "Dataset":
    """The waveform group that holds the rhythm: by its label, then as recorded, then by leads and duration."""
    if not groups:
        raise RecordingError("unreadable", f"{path}: the file holds no waveform")

    def rank(group: "Dataset") -> tuple[bool, bool, int, float]:
        label = _text(group, "MultiplexGroupLabel")
        rate = _number(group, "SamplingFrequency") or 1.0
        return (
            not _NOT_RHYTHM.search(label),
            _text(group, "WaveformOriginality") != "DERIVED",
            int(_number(group, "NumberOfWaveformChannels") or 0),
            (_number(group, "NumberOfWaveformSamples") or 0) / rate,
        )

    return max(groups, key=rank)


def _raw_samples(group: "Dataset", num_described: int, little_endian: bool, path: str) -> np.ndarray:
    """[channel, time] float64, NaN where the file holds its padding value."""
    num_channels = int(_number(group, "NumberOfWaveformChannels") or 0)
    num_samples = int(_number(group, "NumberOfWaveformSamples") or 0)
    if num_channels < 1 or num_samples < 1 or num_channels != num_described:
        raise RecordingError(
            "unreadable",
            f"{path}: wanted samples of the {num_described} channels it describes, got {num_samples} of {num_channels}",
        )
    bits, kind = int(_number(group, "WaveformBitsAllocated") or 0), _text(group, "WaveformSampleInterpretation")
    if (bits, kind) not in _DTYPES:
        raise RecordingError("unreadable", f"{path}: wanted linear samples of 8 to 32 bits, got {kind[:16]} of {bits}")
    dtype = np.dtype(_DTYPES[bits, kind]).newbyteorder("<" if little_endian else ">")
    data = group.get("WaveformData")
    held = len(data) // (dtype.itemsize * num_channels) if isinstance(data, bytes) else 0
    if held < num_samples:
        raise RecordingError(
            "truncated", f"{path}: wanted {num_samples} samples per lead, got {held}; fetch the file again"
        )
    stored = np.frombuffer(data, dtype, count=num_samples * num_channels).reshape(num_samples, num_channels).T
    raw = stored.astype(np.float64)
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= dtype.itemsize:
        padding = int(np.frombuffer(padding, dtype, count=1)[0])
    if isinstance(padding, int):
        raw[stored == padding] = np.nan
    return raw


def _leads_in_mv(raw: np.ndarray, channels: list["Dataset"], path: str) -> tuple[list[int], np.ndarray]:
    """Rows of the channels that are voltages, and their samples. A lead of the 12 in another unit is an error."""
    rows, gains_mv, offsets_mv = [], [], []
    for row, channel in enumerate(channels):
        unit = _first_code(channel, "ChannelSensitivityUnitsSequence", "CodeValue")
        name = _lead_name(channel)
        if mv_per_unit(unit) is None and signed_lead(name)[0] is None:
            continue
        scale = required_mv_per_unit(unit, f"{path}: lead {name[:40]}")
        correction = _number(channel, "ChannelSensitivityCorrectionFactor")
        gain = (_number(channel, "ChannelSensitivity") or 0.0) * (1.0 if correction is None else correction)
        if gain == 0:
            raise RecordingError("unreadable", f"{path}: lead {name[:40]} has no channel sensitivity")
        rows.append(row)
        gains_mv.append(gain * scale)
        offsets_mv.append((_number(channel, "ChannelBaseline") or 0.0) * scale)
    if not rows:
        raise RecordingError(
            "missing leads", f"{path}: wanted ECG leads, got {len(channels)} channels without a voltage"
        )
    kept = raw if len(rows) == len(raw) else raw[rows]
    return rows, to_millivolts(kept, gain_mv=np.array(gains_mv), offset_mv=np.array(offsets_mv), what=path)


def _lead_name(channel: "Dataset") -> str:
    """By the code of its source, else by its meaning or the channel's label, as spelled there."""
    code = _LEAD_CODE.fullmatch(_first_code(channel, "ChannelSourceSequence", "CodeValue"))
    if code and int(code[1]) in _LEADS_BY_NUMBER:
        return _LEADS_BY_NUMBER[int(code[1])]
    meaning = _first_code(channel, "ChannelSourceSequence", "CodeMeaning")
    candidates = (_first_code(channel, "ChannelSourceSequence", "CodeValue"), meaning, _text(channel, "ChannelLabel"))
    for candidate in candidates:
        match = _LEAD_MEANING.fullmatch(candidate)
        if match and signed_lead(match[1])[0] is not None:
            return match[1]
    return next((candidate for candidate in (*candidates[1:], candidates[0]) if candidate), "unnamed")


def _sampling_rate_hz(group: "Dataset", path: str) -> float:
    rate = _number(group, "SamplingFrequency")
    if not rate or rate < 0:
        raise RecordingError("bad sampling rate", f"{path}: wanted a sampling frequency above 0 Hz, got {rate}")
    return rate


def _groups_left_out(groups: list["Dataset"], chosen: "Dataset") -> Iterable[Finding]:
    others = [group for group in groups if group is not chosen]
    num_rhythms = sum(not _NOT_RHYTHM.search(_text(group, "MultiplexGroupLabel")) for group in others)
    if num_rhythms:
        detail = f"The file holds {num_rhythms} more waveform groups that are not median beats; they were not read."
        yield Finding(kind="waveforms left out", severity="info", detail=detail)


def _skews(channels: Iterable["Dataset"]) -> Iterable[Finding]:
    """Channels that were sampled at another moment than the rest; their samples are left where the file has them."""
    for channel in channels:
        for keyword, unit in (("ChannelTimeSkew", "s"), ("ChannelSampleSkew", "samples"), ("ChannelOffset", "s")):
            if shift := _number(channel, keyword):
                name = _lead_name(channel)
                yield Finding(
                    kind="channel skew",
                    severity="warning",
                    lead=canonical_lead(name),
                    detail=f"The file gives this channel a shift in time of {shift:g} {unit} that was not undone.",
                )


def _age_years(dataset: "Dataset") -> float | None:
    if match := _AGE.fullmatch(_text(dataset, "PatientAge")):
        return age_in_years(float(match[1]), match[2])
    recorded = next((_text(dataset, key) for key in ("AcquisitionDateTime", "StudyDate") if _text(dataset, key)), "")
    return age_between(_text(dataset, "PatientBirthDate"), recorded)


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _number(dataset: "Dataset", keyword: str) -> float | None:
    """The element's first value as a finite number; None where it is absent or empty."""
    value: Any = dataset.get(keyword)
    if value is None or value == "":
        return None
    return number(str(value))


def _first_code(dataset: "Dataset", sequence: str, keyword: str) -> str:
    items = dataset.get(sequence)
    return _text(items[0], keyword) if items else ""
