"""Findings about a recording's technical quality: what is missing, flat, clipped, noisy, mixed up or in a wrong unit.

A pacemaker's spikes are found beside these: no fault, but nothing a heart did either.

Findings, not exceptions: what becomes of the recording is the caller's policy. Severe is what makes a lead, or the
whole recording, useless to a person who reads it: so in 14 of 4,860 PTB-XL recordings, each time for a
chest lead that was off or loose.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from hubert_ecg.ecg.arm_reversal import NEEDED_LEADS, reversal_score
from hubert_ecg.ecg.finding import PACING_SPIKES, Finding, Severity
from hubert_ecg.ecg.lead_statistics import BLOCK_S, LeadStatistics, lead_statistics
from hubert_ecg.ecg.pacing import pacing_spikes
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError

_RAIL_MARGIN = 5e-4
_LONG_CLIP_S = 0.1
_CLIPPED_SEVERE = 0.2
_LASTING = 0.05
_ALL_ALONG = 0.9
"""Share of the length between the first and the last place of a finding from which on it is one of the whole length."""
_SHORTEST_S = 1.0
"""Of less than this much there is nothing to say but what is missing."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Where a signal stops being a good ECG. Peak to peak where nothing else is said."""

    missing_fraction: float = 0.5
    """A lead of which more than this part was not recorded, or is flat, is useless: severe."""
    flat_mv: float = 0.01
    """A stretch of half a second whose range is at most this many mV is flat."""
    flat_s: float = 1.0
    """Flat stretches shorter than this many seconds are pauses between beats."""
    rail_mv: float = 1.0
    """A flat lead that lies farther than this many mV from zero is an open input: lead off, not only flat."""
    clip_s: float = 0.02
    """A clipped wave stays at the lead's extreme for this many seconds, and three samples, or longer."""
    clip_edge: float = 0.04
    """A clipped wave reaches its extreme in a step of this part of the lead's range, where a natural one levels off."""
    noise_mv: float = 0.04
    """Root mean square of fast noise between the QRS complexes, in mV, from which it is a warning."""
    noise_severe_mv: float = 0.1
    """The same, from which it can be severe."""
    noise_severe_ratio: float = 9.0
    """Noise is severe where a beat's range is less than this many times the noise: no beats stand out."""
    mains_mv: float = 0.1
    """Mains hum of 50 or 60 Hz, in mV, that is a warning."""
    wander_mv: float = 1.0
    """Baseline wander, in mV, that is a warning."""
    wander_severe_mv: float = 4.0
    """Baseline wander, in mV, from which it is severe where it is also several times the ECG."""
    wander_severe_ratio: float = 2.5
    """Baseline wander is severe where it is at least this many times the range of the lead's beats."""
    artefact_mv: float = 6.0
    """Half a second whose range is larger than this many mV can be an artefact."""
    artefact_ratio: float = 2.5
    """It is one where the range is also more than this many times that of the lead's beats."""
    units_high_mv: float = 20.0
    """Beats that range, in the median lead, over more than this many mV: the unit must be wrong."""
    units_low_mv: float = 0.05
    """Beats that range, in the median lead, over less than this many mV: the unit must be wrong."""
    limb_residual_mv: float = 0.1
    """Limb leads may miss Einthoven's and Goldberger's equations by this many mV."""
    limb_residual_severe: float = 0.5
    """A miss of this part of the limb leads' own size (root mean squares) is severe: leads were mixed up."""
    arm_reversal_score: float = -0.4
    """Below this score (see `reversal_score`) the arm electrodes seem exchanged."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "arm_reversal_score" and not 0 < value < np.inf:
                raise ConfigError(f"{field.name}: wanted a number above 0, got {value}")
        for lower, upper in (
            ("noise_mv", "noise_severe_mv"),
            ("wander_mv", "wander_severe_mv"),
            ("units_low_mv", "units_high_mv"),
        ):
            if getattr(self, lower) >= getattr(self, upper):
                raise ConfigError(
                    f"{lower}: wanted less than {upper} = {getattr(self, upper)}, got {getattr(self, lower)}"
                )
        if not self.arm_reversal_score <= 0:
            raise ConfigError(f"arm_reversal_score: wanted 0 or less, got {self.arm_reversal_score}")


DEFAULT_QUALITY = QualityConfig()


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A recording under examination."""

    names: tuple[str, ...]
    rate_hz: float
    samples: np.ndarray
    """[lead, time] float32 mV, without missing values (gaps are bridged; a lead that is all missing is 0)."""
    recorded: np.ndarray
    """[lead] bool: whether at least half of the lead was recorded."""
    figures: LeadStatistics
    beat_mv: np.ndarray
    """[lead] upper quartile of the half-second ranges: above 30 beats per minute, that of half a second with a QRS."""
    flat: np.ndarray
    """[lead, block] bool"""
    alive: np.ndarray
    """[lead] bool: recorded and not mostly flat."""
    config: QualityConfig


def find_problems(recording: Recording, config: QualityConfig = DEFAULT_QUALITY) -> list[Finding]:
    """What is wrong with a recording of any number of leads in mV, the 12 standard ones or fewer.

    Kinds: `not recorded`, `flat`, `lead off`, `wrong units` (then nothing else is judged, as every limit is in mV),
    `clipped`, `artefact`, `noise`, `mains`, `baseline wander`, `limb leads inconsistent`, `arm leads reversed`,
    `pacing spikes` (info). A lead that is already unusable gets no further finding. 0.6 ms for 12 x
    5000 samples on one core, 0.3 ms for 12 x 1000.
    """
    samples = np.ascontiguousarray(recording.samples, np.float32)
    findings: list[Finding] = []
    recorded = np.ones(len(samples), bool)
    if not np.isfinite(samples).all():
        samples, recorded, findings = _fill_missing(samples, recording, config)
    if samples.shape[1] < _SHORTEST_S * recording.sampling_rate_hz or not recorded.any():
        return findings
    case = _examine(samples, recorded, recording, config)
    findings += _flat(case)
    units = _wrong_units(case)
    if units:
        return [*findings, units]
    checks: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
        _clipped, _artefacts, _noise, _mains, _wander, _limb_leads, _arm_reversal, _pacing
    )  # fmt: skip
    for check in checks:
        findings += check(case)
    return findings


def _fill_missing(
    samples: np.ndarray, recording: Recording, config: QualityConfig
) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    """(samples with gaps bridged by straight lines, [lead] whether enough was recorded, findings)."""
    there = np.isfinite(samples)
    filled, findings = samples.copy(), []
    places = np.arange(samples.shape[1])
    for lead in np.flatnonzero(~there.all(axis=1)):
        known = there[lead]
        filled[lead] = np.interp(places, places[known], samples[lead, known]) if known.any() else 0
        missing = 1 - float(known.mean())
        severity: Severity = "severe" if missing > config.missing_fraction else "warning"
        start, stop = _longest_run(~known)
        rate_hz = recording.sampling_rate_hz
        detail = f"{missing:.1%} of the lead was not recorded; the longest gap lasts {(stop - start) / rate_hz:.3g} s."
        name = recording.lead_names[lead]
        findings.append(_span(name, "not recorded", severity, detail, start, stop, rate_hz))
    return filled, there.mean(axis=1) >= 1 - config.missing_fraction, findings


def _examine(samples: np.ndarray, recorded: np.ndarray, recording: Recording, config: QualityConfig) -> _Case:
    figures = lead_statistics(samples, recording.sampling_rate_hz)
    blocks = figures.block_range_mv.shape[1]
    beat_mv = np.partition(figures.block_range_mv, 3 * blocks // 4, axis=1)[:, 3 * blocks // 4]
    live = beat_mv[recorded & (beat_mv > 0)]
    # In a wrong unit the whole ECG may be smaller than a flat lead's noise is in mV.
    limit = min(config.flat_mv, 0.05 * float(np.median(live))) if live.size else config.flat_mv
    flat = figures.block_range_mv <= limit
    return _Case(
        names=recording.lead_names,
        rate_hz=recording.sampling_rate_hz,
        samples=samples,
        recorded=recorded,
        figures=figures,
        beat_mv=beat_mv,
        flat=flat,
        alive=recorded & (flat.mean(axis=1) < config.missing_fraction),
        config=config,
    )


def _flat(case: _Case) -> Iterator[Finding]:
    for lead in np.flatnonzero(case.flat.any(axis=1) & case.recorded):
        start, stop = _longest_run(case.flat[lead])
        if not case.alive[lead]:
            level = float(np.median(case.samples[lead]))
            share = float(case.flat[lead].mean())
            if abs(level) >= case.config.rail_mv:
                detail = f"{share:.0%} of the lead is flat at {level:.3g} mV: its electrode was off."
                yield _whole(case.names[lead], "lead off", "severe", detail)
            else:
                yield _whole(case.names[lead], "flat", "severe", f"{share:.0%} of the lead is flat.")
        elif (stop - start) * BLOCK_S >= case.config.flat_s:
            detail = f"Flat for {(stop - start) * BLOCK_S:g} s."
            yield _span(case.names[lead], "flat", "warning", detail, start, stop, 1 / BLOCK_S)


def _wrong_units(case: _Case) -> Finding | None:
    if not case.alive.any():
        return None
    usual = float(np.median(case.beat_mv[case.alive]))
    if case.config.units_low_mv <= usual <= case.config.units_high_mv:
        return None
    guess = "µV or counts were read as mV" if usual > 1 else "V were read as mV, or nothing was connected"
    detail = f"The beats of the median lead range over {usual:.3g} mV, where an ECG's do over about 1 mV: {guess}."
    return Finding(kind="wrong units", severity="severe", detail=detail)


def _clipped(case: _Case) -> Iterator[Finding]:
    """Plateaus at a lead's extreme that are entered or left in a step: two at least, or a long one."""
    low, high = case.figures.low_mv[:, None], case.figures.high_mv[:, None]
    margin = np.float32(_RAIL_MARGIN) * (high - low)
    at_rail = case.samples >= high - margin
    at_rail |= case.samples <= low + margin
    needed = max(round(case.config.clip_s * case.rate_hz), 3)
    for lead in np.flatnonzero((np.count_nonzero(at_rail, axis=1) >= needed) & case.alive):
        starts, stops = _clipped_runs(case.samples[lead], at_rail[lead], needed, case.config.clip_edge)
        total = int((stops - starts).sum())
        if starts.size == 0 or (starts.size == 1 and total < _LONG_CLIP_S * case.rate_hz):
            continue
        severity: Severity = "severe" if total > _CLIPPED_SEVERE * case.samples.shape[1] else "warning"
        detail = (
            f"Cut off {starts.size} times at {low[lead, 0]:.3g} or {high[lead, 0]:.3g} mV, "
            f"{total / case.rate_hz:.3g} s in all."
        )
        yield _span(case.names[lead], "clipped", severity, detail, int(starts[0]), int(stops[-1]), case.rate_hz)


def _clipped_runs(row: np.ndarray, at_rail: np.ndarray, needed: int, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """(first, one past the last) of the plateaus. `edge` is a part of the range of `row`."""
    starts, stops = _runs(at_rail)
    before = np.abs(row[starts] - row[np.maximum(starts - 1, 0)])
    after = np.abs(row[stops - 1] - row[np.minimum(stops, row.size - 1)])
    clipped = (stops - starts >= needed) & (np.maximum(before, after) >= edge * np.ptp(row))
    return starts[clipped], stops[clipped]


def _artefacts(case: _Case) -> Iterator[Finding]:
    ranges, config = case.figures.block_range_mv, case.config
    large = (ranges > config.artefact_mv) & (ranges > config.artefact_ratio * case.beat_mv[:, None])
    large &= case.alive[:, None]
    for lead in np.flatnonzero(large.any(axis=1)):
        places = np.flatnonzero(large[lead])
        detail = f"Jumps by {ranges[lead].max():.3g} mV within half a second; a beat's is {case.beat_mv[lead]:.3g} mV."
        yield _span(case.names[lead], "artefact", "warning", detail, int(places[0]), int(places[-1]) + 1, 1 / BLOCK_S)


def _noise(case: _Case) -> Iterator[Finding]:
    config, noise = case.config, case.figures.noise_mv
    noisy = (noise >= config.noise_mv) & case.alive[:, None]
    if not noisy.any():
        return
    drowned = (np.median(noise, axis=1) >= config.noise_severe_mv) & (
        case.beat_mv < config.noise_severe_ratio * np.median(noise, axis=1)
    )
    for lead in np.flatnonzero(noisy.any(axis=1)):
        level = float(np.median(noise[lead]))
        if drowned[lead]:
            detail = f"Noise of {level:.2g} mV root mean square hides the beats."
            yield _whole(case.names[lead], "noise", "severe", detail)
        elif level >= config.noise_mv:
            yield _whole(case.names[lead], "noise", "warning", f"Fast noise of {level:.2g} mV root mean square.")
        elif np.diff(_longest_run(noisy[lead]))[0] >= 2:
            start, stop = _longest_run(noisy[lead])
            worst = float(noise[lead, start:stop].max())
            detail = f"Fast noise of up to {worst:.2g} mV root mean square."
            yield _span(case.names[lead], "noise", "warning", detail, start, stop, 1.0)


def _mains(case: _Case) -> Iterator[Finding]:
    hum = case.figures.mains_mv
    for lead, line in zip(*np.nonzero((hum >= case.config.mains_mv) & case.alive[:, None]), strict=True):
        detail = f"Mains hum of {50 + 10 * int(line)} Hz, {hum[lead, line]:.2g} mV peak to peak."
        yield _whole(case.names[lead], "mains", "warning", detail)


def _wander(case: _Case) -> Iterator[Finding]:
    config, wander = case.config, case.figures.wander_mv
    severe = (wander >= config.wander_severe_mv) & (wander >= config.wander_severe_ratio * case.beat_mv)
    for lead in np.flatnonzero((wander >= config.wander_mv) & case.alive):
        detail = f"The baseline wanders by {wander[lead]:.2g} mV; the beats range over {case.beat_mv[lead]:.2g} mV."
        yield _whole(case.names[lead], "baseline wander", "severe" if severe[lead] else "warning", detail)


_LIMB_EQUATIONS = {
    ("I", "II", "III"): (np.array([[1, -1, 1]], np.float32), "I + III - II"),
    ("I", "II", "aVR", "aVL", "aVF"): (
        np.array([[0.5, 0.5, 1, 0, 0], [-1, 0.5, 0, 1, 0], [0.5, -1, 0, 0, 1]], np.float32),
        "aVR, aVL or aVF against I and II",
    ),
}


def _limb_leads(case: _Case) -> Iterator[Finding]:
    """Einthoven's and Goldberger's equations, constants aside (each lead has its own offset)."""
    for leads, (weights, equation) in _LIMB_EQUATIONS.items():
        rows = _rows(case, leads)
        if rows is None:
            continue
        residual = weights @ case.samples[rows]
        residual -= residual.mean(axis=1, keepdims=True)
        size = np.abs(residual).max(axis=0)
        largest = float(size.max())
        if largest <= case.config.limb_residual_mv:
            continue
        places = np.flatnonzero(size > case.config.limb_residual_mv)
        limb_power = float(np.diag(case.figures.gram_mv2)[rows].mean())
        relative = float(np.sqrt(np.square(residual).mean(axis=1).max() / max(limb_power, 1e-12)))
        # A spike in one of the leads is no more than a spike, however large.
        lasting = places.size >= _LASTING * size.size
        severity: Severity = "severe" if lasting and relative >= case.config.limb_residual_severe else "warning"
        detail = f"{equation}: off by up to {largest:.2g} mV, {relative:.0%} of the limb leads' own size."
        start, stop = int(places[0]), int(places[-1]) + 1
        if stop - start >= _ALL_ALONG * size.size:
            yield _whole(None, "limb leads inconsistent", severity, detail)
        else:
            yield _span(None, "limb leads inconsistent", severity, detail, start, stop, case.rate_hz)


def _arm_reversal(case: _Case) -> Iterator[Finding]:
    rows = _rows(case, NEEDED_LEADS)
    if rows is None:
        return
    score = reversal_score(case.figures.gram_mv2[np.ix_(rows, rows)])
    if score < case.config.arm_reversal_score:
        detail = (
            f"The chest leads fit the limb leads better with the arm electrodes exchanged (score {score:.2f}): "
            "reversed, or a heart on the right."
        )
        yield _whole(None, "arm leads reversed", "warning", detail)


def _pacing(case: _Case) -> Iterator[Finding]:
    spikes = pacing_spikes(case.samples if case.alive.all() else case.samples[case.alive], case.rate_hz)
    if spikes.size:
        yield Finding(
            kind=PACING_SPIKES,
            severity="info",
            detail=f"{spikes.size} spikes like a pacemaker's, {float(np.median(np.diff(spikes))):.2g} s apart.",
            start_s=float(spikes[0]),
            end_s=float(spikes[-1]),
        )


def _rows(case: _Case, leads: tuple[str, ...]) -> list[int] | None:
    """Where these leads are; None unless all are there and alive."""
    if not set(leads) <= set(case.names):
        return None
    rows = [case.names.index(lead) for lead in leads]
    return rows if case.alive[rows].all() else None


def _whole(lead: str | None, kind: str, severity: Severity, detail: str) -> Finding:
    return Finding(kind=kind, severity=severity, lead=lead, detail=detail)


def _span(
    lead: str | None, kind: str, severity: Severity, detail: str, start: int, stop: int, rate_hz: float
) -> Finding:
    return Finding(
        kind=kind, severity=severity, lead=lead, detail=detail, start_s=start / rate_hz, end_s=stop / rate_hz
    )


def _runs(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, one past the last) of each run of True."""
    edges = np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _longest_run(where: np.ndarray) -> tuple[int, int]:
    """(first, one past the last) of the longest run of True; (0, 0) without one."""
    starts, stops = _runs(where)
    if starts.size == 0:
        return 0, 0
    longest = int((stops - starts).argmax())
    return int(starts[longest]), int(stops[longest])
