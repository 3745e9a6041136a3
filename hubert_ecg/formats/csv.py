"""Read a CSV or TSV whose header names the leads, with a column of times or without, into mV.

Separators are comma, semicolon (then with decimal points or decimal commas) and tab. A column header may carry its unit
(`II [mV]`, `V1 (uV)`, `aVR_mV`). Columns that are neither a lead nor the time are not looked at.
"""

import csv
import io
import os
import re
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.leads import signed_lead
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.amplitude import to_mv
from hubert_ecg.formats.bounded import read_bounded
from hubert_ecg.formats.options import ReadOptions
from hubert_ecg.formats.voltage import mv_per_unit

_MAX_COLUMNS = 1000
_MAX_HEADER_BYTES = 1 << 16
_MAX_NAME_CHARACTERS = 200
_UNIT = re.compile(
    r"^(?P<name>.*?)\s*(?:[\[(]\s*(?P<unit>[a-zµμ]+)\s*[\])]|[_ ](?P<bare>mv|uv|µv|μv|ms|us|s|v))$", re.I
)
_TIME_NAMES = {"time", "t", "timestamp", "seconds", "milliseconds", "sec", "ms", "elapsed", "elapsed time"}
_INDEX_NAMES = {"", "index", "sample", "samples", "sample number", "unnamed: 0", "n"}
_SECONDS_PER_UNIT = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "µs": 1e-6}
_PLAUSIBLE_RATES_HZ = (20.0, 20_000.0)
_MAX_DRIFT_STEPS = 0.75
_MAX_GAP_STEPS = 1.75
_WHOLE_RATE_TOLERANCE = 1e-3
"""Times are often rounded to ms, so a rate this close to a whole number of Hz is meant to be that number."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where things are in the file."""

    delimiter: str
    skipped_lines: int
    """Comments and the header, before the first row of numbers."""
    names: tuple[str, ...]
    """One per column, units removed."""
    units: tuple[str, ...]
    """One per column, empty where the header names none."""


def read_csv(path: str, *, record_id: str | None = None, options: ReadOptions | None = None) -> Recording:
    """One recording; an empty cell is NaN.

    The rate comes from the time column, in s, ms or us, and otherwise from `options.sampling_rate_hz`.

    Raises RecordingError: `missing file`, `unreadable` (a cell of a lead is no number, no rows), `missing leads`,
    `unknown unit`, `bad sampling rate` (neither times nor a setting), `irregular sampling`.
    """
    options = options or ReadOptions()
    content = _content(path, options)
    layout = _layout(content, path, options)
    leads = _lead_columns(layout, path, options)
    time = _time_column(layout)
    columns = _numbers(content, layout, [*leads, *([] if time is None else [time])], path)
    rate_hz = options.sampling_rate_hz if time is None else _rate_from_times(columns[time], layout, time, path)
    if rate_hz is None:
        raise RecordingError(
            "bad sampling rate", f"{path}: wanted a column of times or the sampling rate in Hz, got neither"
        )
    told = [_lead_scale(layout, column, path) for column in leads]
    with np.errstate(over="ignore", invalid="ignore"):
        samples = np.stack([columns[column] * (scale or 1.0) for column, scale in zip(leads, told, strict=True)])
        samples = samples.astype(np.float32)
        samples, findings = to_mv(samples, options.units) if not any(told) else (samples, ())
    if np.isinf(samples).any():
        raise RecordingError("unreadable", f"{path}: wanted samples in mV, got infinite values; export it again")
    return Recording(
        samples=samples,
        sampling_rate_hz=rate_hz,
        lead_names=tuple(layout.names[column] for column in leads),
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
        findings=findings,
    )


def names_leads(first_line: str) -> bool:
    """Whether a line of text is a CSV header that names at least one lead."""
    names, _ = _names_and_units(first_line, _delimiter(first_line))
    return any(signed_lead(name)[0] for name in names)


def _content(path: str, options: ReadOptions) -> bytes:
    return read_bounded(path, options.max_bytes).removeprefix(b"\xef\xbb\xbf")


def _layout(content: bytes, path: str, options: ReadOptions) -> _Layout:
    skipped, line = 0, ""
    for raw in io.BytesIO(content[:_MAX_HEADER_BYTES]):
        line = raw.decode("utf-8", errors="replace").strip("\r\n")
        if line.strip() and not line.startswith("#"):
            break
        skipped, line = skipped + 1, ""
    if not line:
        raise RecordingError("unreadable", f"{path}: wanted a header that names the leads, got an empty file")
    delimiter = _delimiter(line)
    names, units = _names_and_units(line, delimiter)
    if len(names) > _MAX_COLUMNS:
        raise RecordingError("unreadable", f"{path}: wanted at most {_MAX_COLUMNS} columns, got {len(names)}")
    if not all(_is_number(name) for name in names):
        return _Layout(delimiter=delimiter, skipped_lines=skipped + 1, names=names, units=units)
    given = options.lead_names or ()
    if len(given) != len(names):
        raise RecordingError(
            "missing leads",
            f"{path}: wanted a header that names the leads, got a row of {len(names)} numbers; add one or give "
            f"lead_names for them",
        )
    return _Layout(delimiter=delimiter, skipped_lines=skipped, names=given, units=("",) * len(given))


def _delimiter(line: str) -> str:
    return max("\t;,", key=line.count)


def _names_and_units(line: str, delimiter: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        # A quote that never closes, say: what stands in the line then names nothing.
        cells = [line]
    parted = [_name_and_unit(cell.strip()[:_MAX_NAME_CHARACTERS]) for cell in cells]
    return tuple(name for name, _ in parted), tuple(unit for _, unit in parted)


def _name_and_unit(cell: str) -> tuple[str, str]:
    match = _UNIT.match(cell)
    if match is None:
        return cell, ""
    return match["name"].strip(), match["unit"] or match["bare"]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _lead_columns(layout: _Layout, path: str, options: ReadOptions) -> list[int]:
    """Columns of the leads that are named; with none, the only column that is neither time nor a row number."""
    named = set(options.lead_names or ())
    leads = [column for column, name in enumerate(layout.names) if signed_lead(name)[0] or name in named]
    others = {*_TIME_NAMES, *_INDEX_NAMES}
    rest = [column for column, name in enumerate(layout.names) if name.lower() not in others]
    if not leads and len(rest) == 1:
        leads = rest
    if not leads:
        raise RecordingError(
            "missing leads",
            f"{path}: wanted a header that names leads (I, II, ... V6), got {len(layout.names)} columns of other names",
        )
    return leads


def _time_column(layout: _Layout) -> int | None:
    return next((column for column, name in enumerate(layout.names) if name.lower() in _TIME_NAMES), None)


def _lead_scale(layout: _Layout, column: int, path: str) -> float | None:
    """mV per unit of a lead's column; None where its header names no unit."""
    unit = layout.units[column]
    scale = mv_per_unit(unit) if unit else None
    if unit and scale is None:
        raise RecordingError("unknown unit", f"{path}: lead {layout.names[column]}: wanted mV, uV or V, got {unit!r}")
    return scale


def _numbers(content: bytes, layout: _Layout, columns: list[int], path: str) -> dict[int, np.ndarray]:
    """The wanted columns. -> column -> [row] float64, NaN for an empty cell."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    wanted = [f"f{column}" for column in columns]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                skip_rows=layout.skipped_lines, autogenerate_column_names=True, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.float64() for name in wanted},
                decimal_point="," if _has_decimal_commas(content, layout) else ".",
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        # The package's own message quotes the cell, which may hold a name or a date.
        raise RecordingError(
            "unreadable", f"{path}: wanted rows of {len(layout.names)} cells with numbers in the leads' columns"
        ) from error
    if table.num_rows == 0:
        raise RecordingError("unreadable", f"{path}: wanted rows of samples, got none")
    return {
        column: table[name].combine_chunks().to_numpy(zero_copy_only=False)
        for column, name in zip(columns, wanted, strict=True)
    }


def _has_decimal_commas(content: bytes, layout: _Layout) -> bool:
    if layout.delimiter == ",":
        return False
    lines = content[:_MAX_HEADER_BYTES].split(b"\n")[layout.skipped_lines :]
    return any(b"," in line for line in lines[:100])


def _rate_from_times(times: np.ndarray, layout: _Layout, column: int, path: str) -> float:
    """Hz. Times that were rounded may lie up to half a step off; a row that is missing or doubled is irregular."""
    if len(times) < 2 or not np.isfinite(times).all() or times[-1] <= times[0]:
        raise RecordingError("irregular sampling", f"{path}: wanted rising times in every row of column {column + 1}")
    step = (times[-1] - times[0]) / (len(times) - 1)
    expected = times[0] + step * np.arange(len(times))
    gaps = np.diff(times)
    if np.abs(times - expected).max() > _MAX_DRIFT_STEPS * step or gaps.max() > _MAX_GAP_STEPS * step or gaps.min() < 0:
        raise RecordingError(
            "irregular sampling",
            f"{path}: wanted evenly spaced times, got steps of {gaps.min():.4g} to {gaps.max():.4g}, {step:.4g} on "
            "average; resample it first",
        )
    rate_hz = 1 / (step * _seconds_per_unit(step, layout, column, path))
    whole = round(rate_hz)
    return float(whole) if whole and abs(rate_hz - whole) <= _WHOLE_RATE_TOLERANCE * whole else rate_hz


def _seconds_per_unit(step: float, layout: _Layout, column: int, path: str) -> float:
    """The header's unit, or the one of s and ms that makes the rate an ECG's; no rate can be one in both."""
    unit = (layout.units[column] or layout.names[column]).lower()
    if unit in _SECONDS_PER_UNIT:
        return _SECONDS_PER_UNIT[unit]
    for seconds in (1.0, 1e-3):
        if _PLAUSIBLE_RATES_HZ[0] <= 1 / (step * seconds) <= _PLAUSIBLE_RATES_HZ[1]:
            return seconds
    raise RecordingError(
        "bad sampling rate", f"{path}: wanted times in s or ms, got steps of {step:.4g}; name the unit in the header"
    )
