"""A 12-lead ECG on its grid as an SVG picture, for reports: two columns of six leads, findings shaded where they are,
and behind the curves, where asked for, what speaks for a label and what against it.

Written by hand rather than drawn by a plotting library: a page of them then takes milliseconds, and stays sharp on any
screen.
"""

from collections.abc import Sequence

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recording import STANDARD_LEADS

_ROWS = 6
_UNITS_PER_S, _UNITS_PER_MV = 250, 100
"""Tenths of a millimetre on paper at 25 mm/s and 10 mm/mV."""
_ROW_UNITS = 300
_GAP_UNITS = 20
_MOST_POINTS = 1000
"""Of a lead's samples no more are drawn; of what lies between them its extremes are."""
_BAND_S = 0.04
"""Attributions are drawn in bands of a small square."""
_FOR, _AGAINST = "#d55e00", "#0072b2"
"""Orange-red speaks for the label, blue against it; Okabe and Ito's palette."""
_FULL = 99.5
"""Per cent of the bands that are paler than full colour."""
_FAINTEST = 0.05
_SHADES = {"severe": "#d55e00", "warning": "#e69f00"}
_GRID = (
    '<pattern id="ecg-grid" width="50" height="50" patternUnits="userSpaceOnUse"><rect width="50" height="50" '
    'fill="#fff"/><path stroke="#f6d5d5" stroke-width="2" d="M0 10H50M0 20H50M0 30H50M0 40H50M10 0V50M20 0V50M30 0V50'
    'M40 0V50"/><path stroke="#e8a6a6" stroke-width="4" d="M0 0H50M0 0V50"/></pattern>'
)
"""The same in all pictures of a page, so that it does not matter which of them an id refers to."""


def ecg_svg(
    samples_mv: np.ndarray,
    sampling_rate_hz: float,
    *,
    start_s: float = 0.0,
    findings: Sequence[Finding] = (),
    attributions: np.ndarray | None = None,
    attribution_rate_hz: float = 100.0,
) -> str:
    """An SVG element of samples [12, time] in mV, leads in standard order: a large square is 0.2 s and 0.5 mV.

    A lead that is larger than its row is drawn smaller, and says by how much. Samples that are not numbers leave gaps.
    `start_s` is where the samples begin in the recording that the findings are about. Findings that name neither a lead
    nor a time are true of the whole and not shaded. `attributions` [12, time] of the same stretch, at a rate of their
    own, are summed over bands of 40 ms, orange-red where they are positive and blue where they are negative; the
    strongest bands of the picture have full colour.
    """
    bands = None if attributions is None else _bands(attributions, attribution_rate_hz)
    width = round(samples_mv.shape[1] / sampling_rate_hz * _UNITS_PER_S)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="12-lead ECG" '
        f'viewBox="-5 -5 {2 * width + _GAP_UNITS + 10} {_ROWS * (_ROW_UNITS + _GAP_UNITS) - _GAP_UNITS + 10}" '
        f'font-family="sans-serif" font-weight="bold" font-size="46"><defs>{_GRID}</defs>'
    ]
    for place, (lead, row) in enumerate(zip(STANDARD_LEADS, samples_mv, strict=True)):
        left = place // _ROWS * (width + _GAP_UNITS)
        top = place % _ROWS * (_ROW_UNITS + _GAP_UNITS)
        shaded = _shades(lead, findings, start_s, samples_mv.shape[1] / sampling_rate_hz)
        size = f'width="{width}" height="{_ROW_UNITS}"'
        parts.append(f'<g transform="translate({left} {top})"><rect {size} fill="url(#ecg-grid)"/>{shaded}')
        if bands is not None:
            parts.append(_coloured(bands[place]))
        parts.append(_trace(lead, row, sampling_rate_hz))
        parts.append(f'<rect {size} fill="none" stroke="#555" stroke-width="4"/></g>')
    return "".join([*parts, "</svg>"])


def _bands(attributions: np.ndarray, rate_hz: float) -> np.ndarray:
    """[12, time] -> [12, band] sums, of which the strongest are 1 or -1."""
    size = max(1, round(_BAND_S * rate_hz))
    missing = -attributions.shape[1] % size
    sums = np.pad(attributions, ((0, 0), (0, missing))).reshape(len(attributions), -1, size).sum(axis=2)
    strongest = np.percentile(np.abs(sums), _FULL)
    return np.clip(sums / strongest, -1, 1) if strongest > 0 else np.zeros_like(sums)


def _coloured(bands: np.ndarray) -> str:
    """Rectangles of the bands [band] of one lead, those too pale to be seen left out."""
    width = round(_BAND_S * _UNITS_PER_S)
    return "".join(
        f'<rect class="attribution" x="{place * width}" width="{width}" height="{_ROW_UNITS}" '
        f'fill="{_FOR if bands[place] > 0 else _AGAINST}" fill-opacity="{0.7 * abs(bands[place]):.2f}"/>'
        for place in np.flatnonzero(np.abs(bands) >= _FAINTEST).tolist()
    )


def _trace(lead: str, row_mv: np.ndarray, sampling_rate_hz: float) -> str:
    """The curve of one lead [time] about the middle of its row, and its name."""
    places, row = _thinned(row_mv)
    known = np.isfinite(row)
    centred = row - np.median(row[known]) if known.any() else row
    shrink = max(1.0, float(np.abs(centred[known]).max(initial=0)) * _UNITS_PER_MV / (_ROW_UNITS / 2))
    note = f"{lead} (1/{shrink:.1f})" if shrink >= 1.05 else lead
    x = np.rint(places / sampling_rate_hz * _UNITS_PER_S).astype(int)
    y = np.full(len(row), _ROW_UNITS // 2)
    y[known] -= np.rint(centred[known] / shrink * _UNITS_PER_MV).astype(int)
    edges = np.flatnonzero(np.diff(known.astype(np.int8), prepend=0, append=0))
    curve = "".join(_line(x[a:b], y[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True))
    line = 'fill="none" stroke="#1a1a1a" stroke-width="5" stroke-linejoin="round"'
    return f'<path {line} d="{curve}"/><text x="20" y="52">{note}</text>'


def _thinned(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place, value) of the points to draw: all samples, or of each stretch its lowest and highest."""
    length = -(-2 * len(row) // _MOST_POINTS)
    if len(row) <= _MOST_POINTS:
        return np.arange(len(row)), row
    whole = len(row) // length * length
    stretches = row[:whole].reshape(-1, length)
    points = np.stack([np.fmin.reduce(stretches, axis=1), np.fmax.reduce(stretches, axis=1)], axis=1).reshape(-1)
    return np.arange(len(points)) * (length / 2), points


def _line(x: np.ndarray, y: np.ndarray) -> str:
    """Path commands from the first point on, each further one relative to the last."""
    steps = np.stack([np.diff(x), np.diff(y)], axis=1).tolist()
    return f"M{x[0]} {y[0]}l{' '.join(f'{dx} {dy}' for dx, dy in steps)}" if steps else f"M{x[0]} {y[0]}h1"


def _shades(lead: str, findings: Sequence[Finding], start_s: float, seconds: float) -> str:
    """Rectangles over what severe findings and warnings say of a lead, or of all of them for some time."""
    found = []
    for finding in findings:
        if finding.severity not in _SHADES or finding.lead not in (lead, None):
            continue
        if finding.lead is None and finding.start_s is None:
            continue
        first = max((finding.start_s or 0.0) - start_s, 0.0)
        last = seconds if finding.end_s is None else min(finding.end_s - start_s, seconds)
        if last > first:
            x, width = round(first * _UNITS_PER_S), max(round((last - first) * _UNITS_PER_S), 1)
            found.append(
                f'<rect x="{x}" width="{width}" height="{_ROW_UNITS}" fill="{_SHADES[finding.severity]}" '
                'fill-opacity="0.2"/>'
            )
    return "".join(found)
