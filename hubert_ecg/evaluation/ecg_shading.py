"""What is shaded behind the curves of an ECG: what speaks for a label and against it, and where findings lie.

Shared by every picture of an ECG, so that a colour means the same in a report, in the app and on paper.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

BAND_S = 0.04
"""Attributions are drawn in bands of a small square."""
FOR, AGAINST = "#d55e00", "#0072b2"
"""Orange-red speaks for the label, blue against it; Okabe and Ito's palette."""
SHADES = {"severe": "#d55e00", "warning": "#e69f00"}
"""Of findings, by severity; others are not shaded."""
SHADE_OPACITY = 0.2
_FULL = 99.5
"""Per cent of the bands that are paler than full colour."""
_FAINTEST = 0.05
_STRONGEST_OPACITY = 0.7


class Noticed(Protocol):
    """A finding, as it is in memory or as it came over the wire."""

    @property
    def severity(self) -> str: ...
    @property
    def lead(self) -> str | None: ...
    @property
    def start_s(self) -> float | None: ...
    @property
    def end_s(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class Shade:
    """A stretch of a lead with a colour behind it."""

    start_s: float
    """Seconds from where the picture, or the band row, begins."""
    end_s: float
    colour: str
    opacity: float


def attribution_bands(attributions: np.ndarray, rate_hz: float) -> np.ndarray:
    """[lead, time] -> [lead, band] sums over 40 ms each, of which the strongest are 1 or -1."""
    size = max(1, round(BAND_S * rate_hz))
    missing = -attributions.shape[1] % size
    sums = np.pad(attributions, ((0, 0), (0, missing))).reshape(len(attributions), -1, size).sum(axis=2)
    strongest = np.percentile(np.abs(sums), _FULL)
    return np.clip(sums / strongest, -1, 1) if strongest > 0 else np.zeros_like(sums)


def band_shades(bands: np.ndarray) -> list[Shade]:
    """The bands [band] of one lead from second 0 on, those too pale to be seen left out."""
    return [
        Shade(
            start_s=place * BAND_S,
            end_s=(place + 1) * BAND_S,
            colour=FOR if bands[place] > 0 else AGAINST,
            opacity=_STRONGEST_OPACITY * abs(float(bands[place])),
        )
        for place in np.flatnonzero(np.abs(bands) >= _FAINTEST).tolist()
    ]


def finding_shades(lead: str, findings: Iterable[Noticed], start_s: float, seconds: float) -> list[Shade]:
    """What severe findings and warnings say of a lead, or of all of them for some time, within `seconds` from
    `start_s` of the recording on. Findings that name neither a lead nor a time are true of the whole and not shaded."""
    found = []
    for finding in findings:
        if finding.severity not in SHADES or finding.lead not in (lead, None):
            continue
        if finding.lead is None and finding.start_s is None:
            continue
        first = max((finding.start_s or 0.0) - start_s, 0.0)
        last = seconds if finding.end_s is None else min(finding.end_s - start_s, seconds)
        if last > first:
            colour = SHADES[finding.severity]
            found.append(Shade(start_s=first, end_s=last, colour=colour, opacity=SHADE_OPACITY))
    return found
