"""Spans of beats against simulated recordings whose waves are known, and signals that hold none."""

from dataclasses import replace

import numpy as np
import pytest

from hubert_ecg.ecg.beats import BeatSpanConfig, beat_spans
from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import ConfigError

TIGHT = BeatSpanConfig(margin_s=0)


def _is_valid(spans: np.ndarray, recording: Recording) -> bool:
    flat = spans.ravel()
    return bool(
        spans.dtype == np.float32 and flat[0] >= 0 and flat[-1] <= recording.duration_s and (np.diff(flat) > 0).all()
    )


@pytest.mark.parametrize("rate_hz", [50.0, 100.0, 250.0, 500.0, 1000.0])
def test_each_beat_reaches_from_p_onset_to_t_offset(rate_hz: float) -> None:
    recording, truth = simulate_condition(["NORM"], seed=1, sampling_rate_hz=rate_hz, noise_level=0.3)
    spans, findings = beat_spans(recording, config=TIGHT)
    assert findings == ()
    assert spans is not None
    assert _is_valid(spans, recording)
    inner = [t for t in truth.r_peak_times_s if 0.6 < t < recording.duration_s - 0.6]
    of_beat = np.stack([spans[np.flatnonzero((spans[:, 0] < t) & (t < spans[:, 1]))[0]] for t in inner])
    assert truth.pr_ms is not None
    lengths_ms = 1000 * (of_beat[:, 1] - of_beat[:, 0])
    np.testing.assert_allclose(lengths_ms, truth.pr_ms + truth.qt_ms, atol=35)


def test_between_beats_nothing_is_kept() -> None:
    recording, truth = simulate_condition(["NORM"], seed=1, noise_level=0.3)
    spans, _ = beat_spans(recording)
    assert spans is not None
    assert truth.pr_ms is not None
    rr_ms = 60_000 / truth.heart_rate_bpm
    kept = float((spans[:, 1] - spans[:, 0]).sum()) / recording.duration_s
    assert kept == pytest.approx((truth.pr_ms + truth.qt_ms + 40) / rr_ms, abs=0.08)


@pytest.mark.parametrize("condition", ["AFIB", "AFLT", "CLBBB", "1AVB"])
def test_all_rhythms_have_spans(condition: str) -> None:
    recording, truth = simulate_condition([condition], seed=2)
    spans, findings = beat_spans(recording)
    assert findings == ()
    assert spans is not None
    assert _is_valid(spans, recording)
    inner = [t for t in truth.r_peak_times_s if 0.3 < t < recording.duration_s - 0.3]
    covered = [bool(((spans[:, 0] < t) & (t < spans[:, 1])).any()) for t in inner]
    assert np.mean(covered) >= 0.9


def test_overlapping_beats_become_one_span() -> None:
    recording, _ = simulate_condition(["NORM"], seed=1)
    spans, _ = beat_spans(recording, config=BeatSpanConfig(margin_s=0.5))
    assert spans is not None
    assert len(spans) == 1


def test_one_lead_is_enough() -> None:
    recording, truth = simulate_condition(["NORM"], seed=1)
    spans, _ = beat_spans(replace(recording, samples=recording.samples[1:2], lead_names=("II",)))
    assert spans is not None
    assert abs(len(spans) - len(truth.r_peak_times_s)) <= 2


@pytest.mark.parametrize("value", [0.0, 1.5, np.nan])
@pytest.mark.parametrize("num_leads", [1, 12])
def test_no_beats_are_found_where_there_are_none(value: float, num_leads: int) -> None:
    samples = np.full((num_leads, 1000), value, np.float32)
    recording = Recording(samples=samples, sampling_rate_hz=100, lead_names=STANDARD_LEADS[:num_leads])
    spans, (finding,) = beat_spans(recording)
    assert spans is None
    assert (finding.kind, finding.severity) == ("beats not found", "warning")


def test_two_seconds_hold_too_few_beats() -> None:
    recording, _ = simulate_condition(["NORM"], seed=1)
    spans, findings = beat_spans(replace(recording, samples=recording.samples[:, :1000]))
    assert spans is None
    assert [f.kind for f in findings] == ["beats not found"]


@pytest.mark.parametrize("values", [{"margin_s": -0.1}, {"without_p_s": 2.0}])
def test_impossible_margins_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        BeatSpanConfig(**values)
