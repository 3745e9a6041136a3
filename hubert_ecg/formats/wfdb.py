"""Read a WFDB record in mV: a .hea header and its .dat, .mat or .flac signal files, in one segment or several."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.finding import STATED_PACING, Finding
from hubert_ecg.ecg.leads import canonical_lead
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.options import ReadOptions
from hubert_ecg.formats.voltage import mv_per_unit
from hubert_ecg.formats.wfdb_gains import common_gain
from hubert_ecg.formats.wfdb_header import NO_FILE, WfdbHeader, WfdbSignal, age_and_sex, read_header, states_pacing
from hubert_ecg.formats.wfdb_samples import frames_in_file, invalid_step, read_signals

_MAX_GAP_FACTOR = 16
"""A record may be this many times as large as what was recorded of it; the rest are gaps, which cost memory too."""

_GAIN_RANGE = (1e-9, 1e15)
"""Steps per mV outside of which a header is damaged: no sample overflows float32 within."""

_STATED = (Finding(kind=STATED_PACING, severity="info", detail="The header states that the patient is paced."),)


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """The leads of one segment, in mV."""

    samples: np.ndarray
    sampling_rate_hz: float
    lead_names: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_wfdb(header_path: str, *, record_id: str | None = None, options: ReadOptions | None = None) -> Recording:
    """The record of a .hea file in mV, lead names as the header spells them, age and sex from its comments.

    Signals that are neither a standard lead nor a voltage (respiration, say) are left out. Leads that have several
    samples per frame are read at their own rate. Segments are put one after the other; where a segment lacks a lead, or
    nothing was recorded, samples are NaN. Gains that contradict one another are replaced and reported (`wfdb_gains`).

    Raises RecordingError: `missing file`, `truncated` (a signal file is shorter than the header says), `unreadable`,
    `unknown unit`, `missing leads` (no signal is a voltage), `mixed sampling rates`, `too large`.
    """
    options = options or ReadOptions()
    header = read_header(header_path)
    segment = _read_segments(header, header_path, options) if header.segments else None
    segment = segment or _read_segment(header, header_path, options)
    age_years, sex = age_and_sex(header.comments)
    return Recording(
        samples=segment.samples,
        sampling_rate_hz=segment.sampling_rate_hz,
        lead_names=segment.lead_names,
        record_id=record_id or os.path.splitext(os.path.basename(header_path))[0],
        age_years=age_years,
        sex=sex,
        findings=(*segment.findings, *_STATED) if states_pacing(header.comments) else segment.findings,
    )


def referenced_files(header_path: str) -> tuple[str, ...]:
    """Names of the files beside a header that are needed to read its record, in the header's order.

    For a record of several segments these are the segments' headers and, of those that lie here already, the signal
    files: fetch them and ask again until nothing is new. Raises RecordingError: `missing file`, `unreadable`.
    """
    header = read_header(header_path)
    names = [signal.file_name for signal in header.signals if signal.file_name != NO_FILE]
    for name, _ in header.segments:
        if name == NO_FILE:
            continue
        segment_path = os.path.join(os.path.dirname(header_path), name + ".hea")
        names.append(name + ".hea")
        if os.path.isfile(segment_path):
            names += [signal.file_name for signal in read_header(segment_path).signals if signal.file_name != NO_FILE]
    return tuple(dict.fromkeys(names))


def _read_segment(header: WfdbHeader, header_path: str, options: ReadOptions) -> _Segment:
    kept, scales = _voltages(header.signals, header_path)
    folder = os.path.dirname(header_path)
    num_frames = header.num_frames
    groups = _by_file(header.signals)
    for file_name, signals in groups.items():
        num_frames = frames_in_file(os.path.join(folder, file_name), signals, num_frames, header_path)
    _check_size([os.path.join(folder, name) for name in groups], options)
    assert num_frames is not None  # a header without signals is refused when it is parsed
    wanted = {header.signals[row].file_name for row in kept}
    rows = {
        file_name: iter(read_signals(os.path.join(folder, file_name), signals, num_frames))
        for file_name, signals in groups.items()
        if file_name in wanted
    }
    steps = {row: next(rows[s.file_name]) for row, s in enumerate(header.signals) if s.file_name in wanted}
    return _segment_in_mv(header, kept, scales, steps, header_path)


def _segment_in_mv(
    header: WfdbHeader, kept: list[int], scales: np.ndarray, steps: dict[int, np.ndarray], header_path: str
) -> _Segment:
    signals = [header.signals[row] for row in kept]
    leads = [steps[row] for row in kept]
    steps_per_mv = np.array([signal.gain for signal in signals]) / scales
    baselines = np.array([signal.baseline for signal in signals], np.float64)
    names = tuple(signal.name.strip() for signal in signals)
    findings: tuple[Finding, ...] = ()
    if found := common_gain(names, leads, steps_per_mv, baselines):
        steps_per_mv[:], baselines[:] = found[0], 0
        findings = (found[1],)
    if not ((np.abs(steps_per_mv) > _GAIN_RANGE[0]) & (np.abs(steps_per_mv) < _GAIN_RANGE[1])).all():
        raise RecordingError("unreadable", f"{header_path}: wanted gains of an ECG, got {steps_per_mv} steps per mV")
    return _Segment(
        samples=_to_mv(leads, signals, steps_per_mv, baselines),
        sampling_rate_hz=header.frame_rate_hz * signals[0].samples_per_frame,
        lead_names=names,
        findings=findings,
    )


def _to_mv(
    leads: list[np.ndarray], signals: Sequence[WfdbSignal], steps_per_mv: np.ndarray, baselines: np.ndarray
) -> np.ndarray:
    """Per lead [time] integers -> [lead, time] float32 mV, NaN where the files mark nothing recorded."""
    steps = np.stack(leads)
    # float32 holds every 16-bit step exactly, and its division then rounds as well as any.
    exact = steps.dtype.itemsize <= 2 and np.abs(baselines).max() < 1 << 23
    samples: np.ndarray = steps.astype(np.float32 if exact else np.float64)
    if baselines.any():
        samples -= baselines[:, None].astype(samples.dtype)
    samples /= steps_per_mv[:, None].astype(samples.dtype)
    for row, (lowest, signal) in enumerate(zip(steps.min(axis=1), signals, strict=True)):
        if lowest <= (mark := invalid_step(signal.format)):
            samples[row, steps[row] == mark] = np.nan
    return samples.astype(np.float32, copy=False)


def _voltages(signals: Sequence[WfdbSignal], header_path: str) -> tuple[list[int], np.ndarray]:
    """Rows of the signals to keep, and mV per unit of each; all have the same number of samples per frame."""
    scales: dict[int, float] = {}
    for row, signal in enumerate(signals):
        scale = 1.0 if not signal.unit else mv_per_unit(signal.unit)
        if scale is not None:
            scales[row] = scale
        elif canonical_lead(signal.name):
            raise RecordingError(
                "unknown unit", f"{header_path}: lead {signal.name}: wanted mV, uV or V, got {signal.unit[:40]!r}"
            )
    leads = [row for row in scales if canonical_lead(signals[row].name)] or list(scales)
    rates = sorted({signals[row].samples_per_frame for row in leads})
    if len(rates) > 1:
        raise RecordingError(
            "mixed sampling rates",
            f"{header_path}: wanted all leads at one rate, got {rates} samples per frame; resample them first",
        )
    kept = [row for row in scales if [signals[row].samples_per_frame] == rates]
    if not kept:
        raise RecordingError("missing leads", f"{header_path}: wanted an ECG, none of its signals is a voltage")
    return kept, np.array([scales[row] for row in kept])


def _by_file(signals: Sequence[WfdbSignal]) -> dict[str, list[WfdbSignal]]:
    groups: dict[str, list[WfdbSignal]] = {}
    for signal in signals:
        groups.setdefault(signal.file_name, []).append(signal)
    return groups


def _check_size(paths: Sequence[str], options: ReadOptions) -> None:
    size = sum(os.path.getsize(path) for path in paths)
    if size > options.max_bytes:
        raise RecordingError(
            "too large", f"{paths[0]}: wanted at most {options.max_bytes} bytes, got {size}; raise max_bytes to read it"
        )


def _read_segments(header: WfdbHeader, header_path: str, options: ReadOptions) -> _Segment:
    """All segments of a record one after the other, with the leads of all; a layout segment holds no samples."""
    folder = os.path.dirname(header_path)
    read: dict[str, _Segment] = {}
    for name, frames in header.segments:
        if frames and name != NO_FILE and name not in read:
            path = os.path.join(folder, name + ".hea")
            segment_header = read_header(path)
            if segment_header.segments:
                raise RecordingError("unreadable", f"{path}: wanted a single segment in {header_path}, got several")
            read[name] = _read_segment(segment_header, path, options)
    if not read:
        raise RecordingError("unreadable", f"{header_path}: the record holds no samples")
    rate_hz = _common_rate_hz(read, header_path)
    lengths = [math.floor(frames * rate_hz / header.frame_rate_hz) for _, frames in header.segments]
    lead_names = tuple(dict.fromkeys(name for segment in read.values() for name in segment.lead_names))
    recorded = sum(segment.samples.size for segment in read.values())
    if sum(lengths) * len(lead_names) > _MAX_GAP_FACTOR * recorded:
        raise RecordingError(
            "too large",
            f"{header_path}: wanted at most {_MAX_GAP_FACTOR} times the {recorded} samples that were recorded, got "
            f"{sum(lengths) * len(lead_names)} with its gaps; read its segments as records of their own",
        )
    samples = np.full((len(lead_names), sum(lengths)), np.nan, np.float32)
    start = 0
    for (name, _), length in zip(header.segments, lengths, strict=True):
        if segment := read.get(name) if length else None:
            if segment.samples.shape[1] < length:
                raise RecordingError(
                    "truncated",
                    f"{header_path}: wanted {length} samples of segment {name}, got {segment.samples.shape[1]}",
                )
            for lead, row in zip(segment.lead_names, segment.samples, strict=True):
                samples[lead_names.index(lead), start : start + length] = row[:length]
        start += length
    findings = tuple(finding for segment in read.values() for finding in segment.findings)
    return _Segment(samples=samples, sampling_rate_hz=rate_hz, lead_names=lead_names, findings=findings)


def _common_rate_hz(segments: dict[str, _Segment], header_path: str) -> float:
    rates = sorted({segment.sampling_rate_hz for segment in segments.values()})
    if len(rates) > 1:
        raise RecordingError(
            "mixed sampling rates",
            f"{header_path}: wanted one rate in all segments, got {rates} Hz; resample them first",
        )
    return rates[0]
