"""Quality findings on signals whose fault was put there, and on real recordings whose faults are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.lead_statistics import lead_statistics
from hubert_ecg.ecg.quality import QualityConfig, find_problems
from hubert_ecg.ecg.recording import LOWEST_RATE_HZ, STANDARD_LEADS, Recording, standard_12_lead
from hubert_ecg.ecg.simulate import SimulatorConfig, cohort, simulate_condition, simulate_member
from hubert_ecg.errors import ConfigError, RecordingError
from hubert_ecg.formats import read_recording

CLEAN, _ = simulate_condition(["NORM"], seed=1, noise_level=0.3)
RATE_HZ = 500
TIME_S = np.arange(CLEAN.samples.shape[1]) / RATE_HZ
V2 = STANDARD_LEADS.index("V2")


def _with_lead(row: np.ndarray, lead: int = V2) -> Recording:
    samples = CLEAN.samples.copy()
    samples[lead] = row
    return replace(CLEAN, samples=samples)


def _kinds(findings: list[Finding], lead: str | None = "V2") -> dict[str, str]:
    return {finding.kind: finding.severity for finding in findings if finding.lead == lead}


def _arms_exchanged(samples: np.ndarray) -> np.ndarray:
    """Electrodes RA and LA swapped: I turns over, II <-> III, aVR <-> aVL; the chest leads stay."""
    swapped = samples[[0, 2, 1, 4, 3, 5, 6, 7, 8, 9, 10, 11]].copy()
    swapped[0] *= -1
    return swapped


def test_a_clean_recording_has_no_findings() -> None:
    assert find_problems(CLEAN) == []


@pytest.mark.parametrize("rate_hz", [50, 100, 257, 500, 1000])
def test_a_clean_recording_has_no_findings_at_any_rate(rate_hz: float) -> None:
    recording, _ = simulate_condition(["NORM"], seed=1, sampling_rate_hz=rate_hz, noise_level=0.3)
    assert find_problems(recording) == []


def test_a_flat_lead_is_severe_and_only_it() -> None:
    findings = find_problems(_with_lead(np.zeros(TIME_S.size)))
    assert [(f.kind, f.severity, f.lead) for f in findings] == [("flat", "severe", "V2")]


def test_a_flat_stretch_is_a_warning_with_its_place() -> None:
    row = CLEAN.samples[V2].copy()
    row[3 * RATE_HZ : 5 * RATE_HZ] = row[3 * RATE_HZ]
    (finding,) = find_problems(_with_lead(row))
    assert (finding.kind, finding.severity, finding.start_s, finding.end_s) == ("flat", "warning", 3.0, 5.0)


def test_a_lead_at_the_rail_is_off() -> None:
    assert _kinds(find_problems(_with_lead(np.full(TIME_S.size, -19.4)))) == {"lead off": "severe"}


@pytest.mark.parametrize(("missing_s", "severity"), [(2.0, "warning"), (6.0, "severe")])
def test_missing_samples_are_reported_with_their_place(missing_s: float, severity: str) -> None:
    row = CLEAN.samples[V2].copy()
    row[RATE_HZ : round((1 + missing_s) * RATE_HZ)] = np.nan
    findings = [f for f in find_problems(_with_lead(row)) if f.kind == "not recorded"]
    assert [(f.severity, f.lead, f.start_s, f.end_s) for f in findings] == [(severity, "V2", 1.0, 1 + missing_s)]


def test_nothing_recorded_at_all_is_said_once_per_lead() -> None:
    findings = find_problems(replace(CLEAN, samples=np.full_like(CLEAN.samples, np.nan)))
    assert [(f.kind, f.severity) for f in findings] == [("not recorded", "severe")] * 12


def test_infinite_samples_count_as_missing() -> None:
    row = CLEAN.samples[V2].copy()
    row[10], row[20] = np.inf, -np.inf
    assert _kinds(find_problems(_with_lead(row))) == {"not recorded": "warning"}


def test_waves_cut_off_at_half_their_height_are_clipped() -> None:
    row = CLEAN.samples[V2]
    assert _kinds(find_problems(_with_lead(np.clip(row, 0.4 * row.min(), 0.4 * row.max())))) == {"clipped": "warning"}


def test_white_noise_instead_of_an_ecg_is_severe() -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal(TIME_S.size)
    assert _kinds(find_problems(_with_lead(noise))) == {"noise": "severe"}


def test_noise_over_an_ecg_is_a_warning_of_the_right_size() -> None:
    noisy = CLEAN.samples[V2] + 0.06 * np.random.default_rng(0).standard_normal(TIME_S.size)
    (finding,) = find_problems(_with_lead(noisy))
    assert (finding.kind, finding.severity, finding.lead) == ("noise", "warning", "V2")
    quiet = lead_statistics(noisy[None].astype(np.float32), RATE_HZ).noise_mv
    assert np.median(quiet) == pytest.approx(0.06, rel=0.2)


def test_a_burst_of_noise_has_a_place() -> None:
    row = CLEAN.samples[V2].copy()
    row[4 * RATE_HZ : 7 * RATE_HZ] += 0.1 * np.random.default_rng(0).standard_normal(3 * RATE_HZ)
    (finding,) = find_problems(_with_lead(row))
    assert (finding.kind, finding.start_s, finding.end_s) == ("noise", 4.0, 7.0)


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_mains_hum_is_measured_peak_to_peak(mains_hz: int) -> None:
    hum = 0.15 * np.sin(2 * np.pi * mains_hz * TIME_S)
    assert "mains" in _kinds(find_problems(_with_lead(CLEAN.samples[V2] + hum)))
    measured = lead_statistics(hum[None].astype(np.float32), RATE_HZ).mains_mv[0]
    assert measured[mains_hz // 10 - 5] == pytest.approx(0.3, rel=0.01)
    assert measured[6 - mains_hz // 10] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("height_mv", "severity"), [(2.0, "warning"), (12.0, "severe")])
def test_baseline_wander_is_measured_peak_to_peak(height_mv: float, severity: str) -> None:
    wander = height_mv / 2 * np.sin(2 * np.pi * 0.2 * TIME_S)
    assert _kinds(find_problems(_with_lead(CLEAN.samples[V2] + wander))) == {"baseline wander": severity}
    assert lead_statistics(wander[None].astype(np.float32), RATE_HZ).wander_mv[0] == pytest.approx(height_mv, rel=0.01)


def test_one_jump_is_an_artefact() -> None:
    row = CLEAN.samples[V2].copy()
    row[2600:2610] += 12
    findings = [f for f in find_problems(_with_lead(row)) if f.kind == "artefact"]
    assert [(f.severity, f.start_s, f.end_s) for f in findings] == [("warning", 5.0, 5.5)]


@pytest.mark.parametrize("factor", [1000.0, 200.0, 1e-3])
def test_a_wrong_unit_is_severe_and_nothing_else_is_judged(factor: float) -> None:
    findings = find_problems(replace(CLEAN, samples=CLEAN.samples * np.float32(factor)))
    assert [(f.kind, f.severity, f.lead) for f in findings] == [("wrong units", "severe", None)]


def test_a_flat_lead_is_found_in_a_wrong_unit_too() -> None:
    volts = _with_lead(np.zeros(TIME_S.size)).samples * np.float32(1e-3)
    findings = find_problems(replace(CLEAN, samples=volts))
    assert [f.kind for f in findings] == ["flat", "wrong units"]


def test_limb_leads_with_gains_of_their_own_contradict_einthoven() -> None:
    gains = np.array([1.0, 1.4, 0.7, 0.8, 1.2, 1.1, 1, 1, 1, 1, 1, 1], np.float32)
    findings = find_problems(replace(CLEAN, samples=CLEAN.samples * gains[:, None]))
    assert {f.kind for f in findings} == {"limb leads inconsistent"}
    assert len(findings) == 2


def test_exchanged_lead_names_are_severe() -> None:
    findings = find_problems(replace(CLEAN, samples=CLEAN.samples[[1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]))
    assert ("limb leads inconsistent", "severe", None) in {(f.kind, f.severity, f.start_s) for f in findings}


def test_offsets_of_single_leads_do_not_contradict_einthoven() -> None:
    offsets = np.linspace(-5, 5, 12, dtype=np.float32)[:, None]
    assert find_problems(replace(CLEAN, samples=CLEAN.samples + offsets)) == []


def test_exchanged_arms_are_found_and_others_are_not() -> None:
    config = SimulatorConfig(num_patients=40, seed=2, duration_s=5, recordings_per_patient_max=1)
    recordings = [simulate_member(config, member)[0] for member in cohort(config)]
    swapped = [replace(r, samples=_arms_exchanged(r.samples)) for r in recordings]
    found = [["arm leads reversed" in _kinds(find_problems(r), None) for r in group] for group in (recordings, swapped)]
    assert sum(found[0]) == 0
    assert sum(found[1]) >= 0.85 * len(swapped)


@pytest.mark.parametrize("lead", ["I", "V5"])
def test_one_lead_alone_is_judged(lead: str) -> None:
    row = CLEAN.samples[STANDARD_LEADS.index(lead)]
    alone = Recording(samples=row[None], sampling_rate_hz=RATE_HZ, lead_names=(lead,))
    assert find_problems(alone) == []
    assert [f.kind for f in find_problems(replace(alone, samples=np.zeros_like(row)[None]))] == ["flat"]


def test_samples_need_not_be_contiguous() -> None:
    samples = np.asfortranarray(_with_lead(np.zeros(TIME_S.size)).samples)
    assert [f.kind for f in find_problems(replace(CLEAN, samples=samples))] == ["flat"]


@settings(max_examples=40, deadline=None)
@given(
    samples=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(0, 400)),
        elements=st.floats(-1e3, 1e3, width=32) | st.just(np.nan),
    ),
    rate_hz=st.sampled_from([50.0, 100.0, 257.0]),
)
def test_no_signal_makes_it_fail(samples: np.ndarray, rate_hz: float) -> None:
    recording = Recording(samples=samples, sampling_rate_hz=rate_hz, lead_names=STANDARD_LEADS[: len(samples)])
    for finding in find_problems(recording):
        assert finding.severity in ("info", "warning", "severe")
        assert finding.lead is None or finding.lead in recording.lead_names
        if finding.start_s is not None and finding.end_s is not None:
            assert 0 <= finding.start_s < finding.end_s <= recording.duration_s + 1e-6


def test_the_lowest_rate_that_a_recording_may_have_is_judged_and_a_lower_one_refused() -> None:
    """At 0.05 Hz the 10 s that lines are taken from held no sample."""
    samples = np.random.default_rng(3).normal(size=(12, 2000)).astype(np.float32)
    find_problems(Recording(samples=samples, sampling_rate_hz=LOWEST_RATE_HZ))
    with pytest.raises(RecordingError, match="wanted a sampling rate of 1 to") as caught:
        find_problems(Recording(samples=samples, sampling_rate_hz=0.05))
    assert caught.value.reason == "bad sampling rate"


@pytest.mark.parametrize("values", [{"flat_mv": 0}, {"noise_mv": 0.2}, {"arm_reversal_score": 0.1}])
def test_impossible_limits_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        QualityConfig(**values)


def test_the_faults_of_ptbxl_are_found_and_severe_is_rare(ptbxl_dir: Path) -> None:
    paths = sorted((ptbxl_dir / "records100").rglob("*.hea"))[::10]
    severe = 0
    for path in paths:
        findings = find_problems(standard_12_lead(read_recording(str(path))))
        severe += any(f.severity == "severe" for f in findings)
    assert severe <= 0.01 * len(paths)


@pytest.mark.slow
def test_findings_of_all_of_ptbxl(ptbxl_dir: Path) -> None:
    kinds: list[tuple[str, str]] = []
    paths = sorted((ptbxl_dir / "records100").rglob("*.hea"))
    for path in paths:
        findings = find_problems(standard_12_lead(read_recording(str(path))))
        kinds += {(f.kind, f.severity) for f in findings}
    assert kinds.count(("flat", "severe")) == 1
    assert kinds.count(("lead off", "severe")) == 1
    assert kinds.count(("wrong units", "severe")) == 0
    assert kinds.count(("arm leads reversed", "warning")) <= 5
    assert sum(severity == "severe" for _, severity in kinds) <= 0.005 * len(paths)
