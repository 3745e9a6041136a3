"""Pacemaker spikes put on simulated ECGs are found, other ECGs have none; and counts on real recordings."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.ecg.finding import PACING_SPIKES, STATED_PACING
from hubert_ecg.ecg.pacing import pacing_spikes
from hubert_ecg.ecg.quality import find_problems
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from hubert_ecg.formats import read_recording


def _with_spikes(rate_hz: float, *, millivolts: float, width_s: float = 0.002, beats: slice = slice(None)) -> Recording:
    """A broad QRS complex 60 ms after each spike, which every lead sees differently."""
    recording, truth = simulate_condition(["CLBBB"], seed=3, sampling_rate_hz=rate_hz, noise_level=0.3)
    samples = recording.samples.copy()
    sizes = millivolts * np.linspace(-1, 1, len(samples), dtype=np.float32)
    width = max(round(width_s * rate_hz), 1)
    for time_s in truth.r_peak_times_s[beats]:
        start = round((time_s - 0.12) * rate_hz)
        if start > 0:
            samples[:, start : start + width] += sizes[:, None]
    return replace(recording, samples=samples)


@pytest.mark.parametrize("rate_hz", [250, 360, 500, 1000])
@pytest.mark.parametrize("millivolts", [1, 5])
def test_spikes_are_found_where_they_were_put(rate_hz: float, millivolts: float) -> None:
    recording = _with_spikes(rate_hz, millivolts=millivolts)
    _, truth = simulate_condition(["CLBBB"], seed=3, sampling_rate_hz=rate_hz, noise_level=0.3)
    expected = [time_s - 0.12 for time_s in truth.r_peak_times_s if 0.1 < time_s - 0.12 < recording.duration_s - 0.1]
    assert pacing_spikes(recording.samples, rate_hz) == pytest.approx(expected, abs=2 / rate_hz + 0.002)


@pytest.mark.parametrize("rate_hz", [100, 128])
def test_large_spikes_are_found_at_low_rates(rate_hz: float) -> None:
    found = pacing_spikes(_with_spikes(rate_hz, millivolts=5).samples, rate_hz)
    assert found.size >= 5


def test_the_finding_says_where_and_is_no_fault_of_the_recording() -> None:
    (finding,) = [f for f in find_problems(_with_spikes(500, millivolts=2)) if f.kind == PACING_SPIKES]
    assert (finding.severity, finding.lead) == ("info", None)
    assert finding.start_s is not None
    assert finding.end_s is not None
    assert 0 <= finding.start_s < finding.end_s <= 10


def test_two_spikes_are_artefacts() -> None:
    assert pacing_spikes(_with_spikes(500, millivolts=5, beats=slice(1, 3)).samples, 500).size == 0
    assert pacing_spikes(_with_spikes(500, millivolts=5, beats=slice(1, 4)).samples, 500).size == 3


def test_spikes_in_one_lead_of_twelve_are_artefacts() -> None:
    recording, _ = simulate_condition(["NORM"], seed=1)
    samples = recording.samples.copy()
    samples[7, 100::400] += 8
    assert pacing_spikes(samples, 500).size == 0


@pytest.mark.parametrize("rate_hz", [100, 250, 500, 1000])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_simulated_hearts_have_no_spikes(condition: str, rate_hz: float) -> None:
    for seed in range(4):
        recording, _ = simulate_condition([condition], seed=seed, sampling_rate_hz=rate_hz)
        assert pacing_spikes(recording.samples, rate_hz).size == 0


@pytest.mark.parametrize("rate_hz", [100, 250, 500, 1000])
@pytest.mark.parametrize("disturbance", ["noise", "mains 50 Hz", "mains 60 Hz", "steep QRS", "wander", "clipped"])
def test_disturbances_are_no_spikes(disturbance: str, rate_hz: float) -> None:
    recording, _ = simulate_condition(["NORM"], seed=1, sampling_rate_hz=rate_hz, noise_level=0.3)
    time_s = np.arange(recording.samples.shape[1]) / rate_hz
    samples = recording.samples
    changed = {
        "noise": samples + np.random.default_rng(0).normal(0, 0.15, samples.shape),
        "mains 50 Hz": samples + 0.5 * np.sin(2 * np.pi * 50 * time_s + 0.3),
        "mains 60 Hz": samples + 0.5 * np.sin(2 * np.pi * 60 * time_s + 0.3),
        "steep QRS": 3 * samples,
        "wander": samples + 2 * np.sin(2 * np.pi * 0.3 * time_s),
        "clipped": np.clip(samples, -0.4, 0.4),
    }[disturbance]
    assert pacing_spikes(changed.astype(np.float32), rate_hz).size == 0


@pytest.mark.parametrize("shape", [(0, 5000), (12, 0), (12, 40), (12, 499), (1, 5000)])
def test_recordings_without_anything_have_no_spikes(shape: tuple[int, int]) -> None:
    assert pacing_spikes(np.zeros(shape, np.float32), 500).size == 0


def test_samples_are_left_as_they_are() -> None:
    recording = _with_spikes(500, millivolts=5)
    before = recording.samples.copy()
    pacing_spikes(recording.samples, 500)
    np.testing.assert_array_equal(recording.samples, before)


def _found(paths: Iterable[Path]) -> set[str]:
    read = {path.stem: standard_12_lead(read_recording(str(path))) for path in paths}
    return {name for name, each in read.items() if PACING_SPIKES in {f.kind for f in find_problems(each)}}


def _stated(paths: Iterable[Path]) -> set[str]:
    return {p.stem for p in paths if STATED_PACING in {f.kind for f in read_recording(str(p)).findings}}


def test_of_the_challenge_the_one_with_spikes_is_found_and_both_are_stated(shared_dir: Path) -> None:
    """Q0398 was filtered: its paced beats have no spike."""
    paths = [*(shared_dir / "data" / "cinc2021").glob("*.hea"), *(shared_dir / "data" / "ptbxl500").rglob("*.hea")]
    assert _found(paths) == {"HR12083"}
    assert _stated(paths) == {"HR12083", "Q0398"}


def test_of_ludb_all_paced_and_no_others_are_found(ludb_dir: Path) -> None:
    """Its two wandering atrial pacemakers are not paced. It was looked at when the limits were chosen."""
    paths = list((ludb_dir / "data").glob("*.hea"))
    assert len(paths) == 100
    assert _found(paths) == _stated(paths) == {"8", "45", "74", "95", "104", "111"}


@pytest.mark.slow
def test_of_ptbxl_at_100_hz_a_part_is_found_and_hardly_any_others(ptbxl_dir: Path) -> None:
    """The limits were chosen on folds 1 to 7, where 25 of 42 are found; 8 and 9, where 2 of 15 are, had no say."""
    source = PtbxlSource(input=str(ptbxl_dir), rate_hz=100, val_fold=8, test_fold=9)
    found: dict[tuple[bool, bool], list[bool]] = {}
    for row in source.listing().table.to_pylist():
        findings = find_problems(standard_12_lead(source.read(row)))
        group = (row["fold"] >= 8, "PACE" in row["labels.rhythm"])
        found.setdefault(group, []).append(any(finding.kind == PACING_SPIKES for finding in findings))
    for held_out, least_sensitivity in ((False, 0.55), (True, 0.1)):
        assert np.mean(found[held_out, True]) >= least_sensitivity
        assert np.mean(found[held_out, False]) <= 0.002
