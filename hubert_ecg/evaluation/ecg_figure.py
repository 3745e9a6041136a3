"""A 12-lead ECG on its grid as an SVG picture, for reports: two columns of six leads, findings shaded where they are,
and behind the curves, where asked for, what speaks for a label and what against it.

Written by hand rather than drawn by a plotting library: a page of them then takes milliseconds, and stays sharp on any
screen.
"""

from collections.abc import Sequence

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.evaluation.ecg_curve import known_stretches, thinned
from hubert_ecg.evaluation.ecg_shading import Shade, attribution_bands, band_shades, finding_shades

_ROWS = 6
_UNITS_PER_S, _UNITS_PER_MV = 250, 100
"""Tenths of a millimetre on paper at 25 mm/s and 10 mm/mV."""
_ROW_UNITS = 300
_GAP_UNITS = 20
_MOST_POINTS = 1000
"""Of a lead's samples no more are drawn; of what lies between them its extremes are."""
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
    bands = None if attributions is None else attribution_bands(attributions, attribution_rate_hz)
    width = round(samples_mv.shape[1] / sampling_rate_hz * _UNITS_PER_S)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="12-lead ECG" '
        f'viewBox="-5 -5 {2 * width + _GAP_UNITS + 10} {_ROWS * (_ROW_UNITS + _GAP_UNITS) - _GAP_UNITS + 10}" '
        f'font-family="sans-serif" font-weight="bold" font-size="46"><defs>{_GRID}</defs>'
    ]
    for place, (lead, row) in enumerate(zip(STANDARD_LEADS, samples_mv, strict=True)):
        left = place // _ROWS * (width + _GAP_UNITS)
        top = place % _ROWS * (_ROW_UNITS + _GAP_UNITS)
        shaded = _rects(finding_shades(lead, findings, start_s, samples_mv.shape[1] / sampling_rate_hz))
        size = f'width="{width}" height="{_ROW_UNITS}"'
        parts.append(f'<g transform="translate({left} {top})"><rect {size} fill="url(#ecg-grid)"/>{shaded}')
        if bands is not None:
            parts.append(_rects(band_shades(bands[place]), ' class="attribution"'))
        parts.append(_trace(lead, row, sampling_rate_hz))
        parts.append(f'<rect {size} fill="none" stroke="#555" stroke-width="4"/></g>')
    return "".join([*parts, "</svg>"])


def _rects(shades: Sequence[Shade], attribute: str = "") -> str:
    """Rectangles as high as a row."""
    parts = []
    for shade in shades:
        x, width = round(shade.start_s * _UNITS_PER_S), max(round((shade.end_s - shade.start_s) * _UNITS_PER_S), 1)
        parts.append(
            f'<rect{attribute} x="{x}" width="{width}" height="{_ROW_UNITS}" fill="{shade.colour}" '
            f'fill-opacity="{shade.opacity:.2f}"/>'
        )
    return "".join(parts)


def _trace(lead: str, row_mv: np.ndarray, sampling_rate_hz: float) -> str:
    """The curve of one lead [time] about the middle of its row, and its name."""
    places, row = thinned(row_mv, _MOST_POINTS)
    known = np.isfinite(row)
    centred = row - np.median(row[known]) if known.any() else row
    shrink = max(1.0, float(np.abs(centred[known]).max(initial=0)) * _UNITS_PER_MV / (_ROW_UNITS / 2))
    note = f"{lead} (1/{shrink:.1f})" if shrink >= 1.05 else lead
    x = np.rint(places / sampling_rate_hz * _UNITS_PER_S).astype(int)
    y = np.full(len(row), _ROW_UNITS // 2)
    y[known] -= np.rint(centred[known] / shrink * _UNITS_PER_MV).astype(int)
    curve = "".join(_line(x[part], y[part]) for part in known_stretches(row))
    line = 'fill="none" stroke="#1a1a1a" stroke-width="5" stroke-linejoin="round"'
    return f'<path {line} d="{curve}"/><text x="20" y="52">{note}</text>'


def _line(x: np.ndarray, y: np.ndarray) -> str:
    """Path commands from the first point on, each further one relative to the last."""
    steps = np.stack([np.diff(x), np.diff(y)], axis=1).tolist()
    return f"M{x[0]} {y[0]}l{' '.join(f'{dx} {dy}' for dx, dy in steps)}" if steps else f"M{x[0]} {y[0]}h1"
