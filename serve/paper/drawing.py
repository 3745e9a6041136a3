"""A sheet with everything that is drawn on it, in millimetres; each kind of output only has to repeat it.

A lead is drawn about its median over the sheet, as its electrode's offset means nothing. What is larger than its line
runs over the neighbouring lines, as on paper, and ends at the edge of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hubert_ecg.ecg.leads import STANDARD_LEADS, canonical_lead
from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.ecg_curve import known_stretches, thinned
from hubert_ecg.evaluation.ecg_shading import Noticed, attribution_bands, band_shades, finding_shades
from serve.paper.display_filter import display_filter, pass_band
from serve.paper.layout import PaperStyle, Sheet, Strip, sheet_of, torn

PAPER, SMALL_LINES, LARGE_LINES = "#fffafa", "#f7d4d4", "#eba5a5"
INK, QUIET_INK = "#141414", "#55504f"
SMALL_LINE_MM, LARGE_LINE_MM, CURVE_MM = 0.1, 0.2, 0.25
NAME_MM, FOOT_MM = 3.2, 2.8
"""Heights of letters."""
NAME_DX_MM = 1.0
HALO_MM = 0.8
"""Of paper around a name, so that it can be read where a curve crosses it."""
FOOT_BELOW_MM = 4.6
"""Of the base line of the foot, below the grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """The curve of one strip."""

    strip: Strip
    pieces_mm: tuple[np.ndarray, ...]
    """Stretches without a gap, each [point, 2] x and y on the sheet."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A coloured rectangle behind a curve."""

    kind: str
    """`attribution` or `finding`."""
    x_mm: float
    y_mm: float
    width_mm: float
    height_mm: float
    colour: str
    opacity: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """All that lies on a sheet."""

    sheet: Sheet
    curves: tuple[Curve, ...]
    patches: tuple[Patch, ...]
    foot: str

    def name_places(self) -> list[tuple[str, float, float]]:
        """(lead, x, y of the base line) of each name, in the upper left corner of its strip."""
        return [
            (strip.name, strip.x_mm + NAME_DX_MM, max(strip.y_mm - strip.height_mm / 2 + NAME_MM, NAME_MM))
            for strip in self.sheet.strips
        ]


def drawings(
    samples_mv: np.ndarray,
    sampling_rate_hz: float,
    leads: Sequence[str],
    style: PaperStyle,
    *,
    start_s: float = 0.0,
    attributions: np.ndarray | None = None,
    attribution_rate_hz: float = 100.0,
    findings: Sequence[Noticed] = (),
    most_points_per_s: float = 500.0,
    pages: bool = False,
) -> tuple[Drawing, ...]:
    """What is drawn of samples [lead, time] in mV on a sheet, or with `pages` on each page that it is torn into.

    The sheet shows up to 10 s from `start_s` on.

    `attributions` [12, time] are of the standard leads in their order and begin with the recording, as the service
    sends them; their colours are relative to the strongest of the whole recording. `findings` lie on the recording's
    clock too. Samples that are not numbers leave gaps.
    """
    sheet = _sheet_for(samples_mv, sampling_rate_hz, leads, style, start_s)
    centred = _centred(samples_mv, sampling_rate_hz, sheet)
    bands = None if attributions is None else attribution_bands(attributions, attribution_rate_hz)
    foot = _foot(sheet, sampling_rate_hz, explained=bands is not None)
    return tuple(
        Drawing(
            sheet=page,
            curves=tuple(_curve(centred, sampling_rate_hz, strip, page, most_points_per_s) for strip in page.strips),
            patches=tuple(patch for strip in page.strips for patch in _patches(strip, page, bands, findings)),
            foot=foot,
        )
        for page in (torn(sheet) if pages else (sheet,))
    )


def _sheet_for(
    samples_mv: np.ndarray, sampling_rate_hz: float, leads: Sequence[str], style: PaperStyle, start_s: float
) -> Sheet:
    """`sheet_of` for samples [lead, time]; InputError where they and the leads' names do not fit."""
    if samples_mv.ndim != 2 or len(samples_mv) != len(leads) or not samples_mv.shape[1]:
        raise InputError(
            f"ECG to draw: wanted samples [lead, time] of {len(leads)} leads {list(leads)}, got an array of shape "
            f"{samples_mv.shape}; give one row per lead"
        )
    return sheet_of(leads, samples_mv.shape[1] / sampling_rate_hz, style=style, start_s=start_s)


def _centred(samples_mv: np.ndarray, rate_hz: float, sheet: Sheet) -> np.ndarray:
    """[lead, time] float64 mV, filtered if the style says so, each lead minus its median over the sheet."""
    samples = np.asarray(samples_mv, np.float64)
    samples = np.where(np.isfinite(samples), samples, np.nan)
    if sheet.style.filtered:
        samples = display_filter(samples, rate_hz)
    shown = samples[:, _sample(sheet.start_s, rate_hz) : _sample(sheet.end_s, rate_hz) + 1]
    middles = [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0 for row in shown]
    return np.asarray(samples - np.array(middles)[:, None])


def _curve(samples: np.ndarray, rate_hz: float, strip: Strip, sheet: Sheet, most_per_s: float) -> Curve:
    """The samples from the strip's start to its end, both included, so that torn pieces meet."""
    first = -(-round(strip.start_s * rate_hz, 6) // 1)
    last = round((strip.start_s + strip.seconds) * rate_hz, 6) // 1
    row = samples[strip.row, int(first) : int(last) + 1]
    places, row = thinned(row, max(int(most_per_s * strip.seconds) + 1, 2))
    x = strip.x_mm + ((first + places) / rate_hz - strip.start_s) * sheet.style.speed_mm_s
    y = strip.y_mm - row * sheet.style.gain_mm_mv
    points = np.stack([x, y], axis=1)
    return Curve(strip=strip, pieces_mm=tuple(points[piece] for piece in known_stretches(row)))


def _patches(strip: Strip, sheet: Sheet, bands: np.ndarray | None, findings: Sequence[Noticed]) -> list[Patch]:
    """What lies behind a strip: what its lead's findings say and how it speaks for a label."""
    lead = canonical_lead(strip.name)
    seconds = min(strip.seconds, sheet.end_s - strip.start_s)
    shades = [("finding", shade) for shade in finding_shades(strip.name, findings, strip.start_s, seconds)]
    if bands is not None and lead is not None:
        for shade in band_shades(bands[STANDARD_LEADS.index(lead)]):
            first, last = max(shade.start_s - strip.start_s, 0.0), min(shade.end_s - strip.start_s, seconds)
            if last - first > 1e-6:
                shades.append(("attribution", replace(shade, start_s=first, end_s=last)))
    return [
        Patch(
            kind=kind,
            x_mm=strip.x_mm + shade.start_s * sheet.style.speed_mm_s,
            y_mm=strip.y_mm - strip.height_mm / 2,
            width_mm=(shade.end_s - shade.start_s) * sheet.style.speed_mm_s,
            height_mm=strip.height_mm,
            colour=shade.colour,
            opacity=shade.opacity,
        )
        for kind, shade in shades
    ]


def _foot(sheet: Sheet, rate_hz: float, *, explained: bool) -> str:
    style = sheet.style
    parts = [
        f"{style.speed_mm_s} mm/s",
        f"{style.gain_mm_mv} mm/mV",
        f"display filter {pass_band(rate_hz)}" if style.filtered else "no display filter",
        f"{rate_hz:g} Hz",
        f"{sheet.start_s:.1f}-{sheet.end_s:.1f} s of {sheet.duration_s:.1f} s",
    ]
    if sheet.overlapping:
        parts.append("short recording: columns overlap in time")
    if explained:
        parts.append("orange speaks for the condition, blue against it")
    return "   ".join(parts)


def _sample(time_s: float, rate_hz: float) -> int:
    return round(time_s * rate_hz)
