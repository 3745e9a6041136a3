"""The simulator keeps its word: lead identities, mechanisms that can be measured, same ECG at any rate, no giveaways."""

import dataclasses

import numpy as np
import pytest

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.ecg.simulate import (
    CONDITION_TITLES,
    CONDITIONS,
    OTHER,
    SimulatorConfig,
    Truth,
    cohort,
    simulate_condition,
    simulate_member,
)
from hubert_ecg.errors import ConfigError

SEEDS = range(12)
LEAD = {name: row for row, name in enumerate(STANDARD_LEADS)}


def mean_beat(recording: Recording, truth: Truth, *, before_s: float, after_s: float) -> np.ndarray:
    """[lead, time] mean of the beats around their R peaks, baseline left as it is."""
    rate = recording.sampling_rate_hz
    starts = np.round((truth.r_peak_times_s - before_s) * rate).astype(int)
    length = round((before_s + after_s) * rate)
    beats = [recording.samples[:, s : s + length] for s in starts if s >= 0 and s + length <= recording.samples.shape[1]]
    assert len(beats) >= 3
    return np.mean(beats, axis=0)


def speed(samples: np.ndarray) -> np.ndarray:
    """[lead, time] -> [time] how fast the ECG moves, over the eight independent leads."""
    independent = samples[[0, 1, 6, 7, 8, 9, 10, 11]]
    return np.linalg.norm(np.gradient(independent, axis=1), axis=0)


def variation_of_rr(truth: Truth) -> float:
    rr = np.diff(truth.r_peak_times_s)
    return float(rr.std() / rr.mean())


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive exceeds a negative."""
    return float((positive[:, None] > negative[None, :]).mean())


@pytest.mark.parametrize("condition", CONDITIONS)
def test_limb_leads_obey_einthoven_and_goldberger_exactly_under_noise(condition: str) -> None:
    recording, _ = simulate_condition([condition], seed=3, noise_level=2.0)
    i, ii, iii, avr, avl, avf = recording.samples[:6]
    assert recording.samples.dtype == np.float32
    np.testing.assert_array_equal(iii, ii - i)
    np.testing.assert_array_equal(avr, -(i + ii) / 2)
    np.testing.assert_array_equal(avl, i - ii / 2)
    np.testing.assert_array_equal(avf, ii - i / 2)
    np.testing.assert_allclose(avr + avl + avf, 0, atol=4 * np.finfo(np.float32).eps * np.abs(recording.samples).max())


@pytest.mark.parametrize("rate_hz", [100.0, 257.0, 500.0, 1000.0])
@pytest.mark.parametrize("duration_s", [1.0, 10.0, 31.0])
def test_any_rate_and_duration(rate_hz: float, duration_s: float) -> None:
    for condition in CONDITIONS:
        recording, truth = simulate_condition([condition], seed=1, sampling_rate_hz=rate_hz, duration_s=duration_s)
        assert recording.samples.shape == (12, round(rate_hz * duration_s))
        assert recording.lead_names == STANDARD_LEADS
        assert np.isfinite(recording.samples).all()
        assert ((truth.r_peak_times_s >= 0) & (truth.r_peak_times_s < duration_s)).all()


@pytest.mark.parametrize("labels", [*[(c,) for c in CONDITIONS], ("AFIB", "CLBBB"), ("CRBBB", "1AVB")])
def test_the_same_ecg_at_100_and_500_hz(labels: tuple[str, ...]) -> None:
    clean_500, truth_500 = simulate_condition(labels, seed=5, sampling_rate_hz=500, noise_level=0)
    clean_100, truth_100 = simulate_condition(labels, seed=5, sampling_rate_hz=100, noise_level=0)
    np.testing.assert_allclose(clean_100.samples, clean_500.samples[:, ::5], atol=1e-4)
    np.testing.assert_array_equal(truth_100.r_peak_times_s, truth_500.r_peak_times_s)

    noisy_500, _ = simulate_condition(labels, seed=5, sampling_rate_hz=500)
    noisy_100, _ = simulate_condition(labels, seed=5, sampling_rate_hz=100)
    lines = slice(0, 300)  # 0 to 30 Hz in steps of 0.1 Hz
    low_500 = np.fft.rfft(noisy_500.samples[:, ::1], axis=1)[:, lines] / 5
    low_100 = np.fft.rfft(noisy_100.samples, axis=1)[:, lines]
    assert np.linalg.norm(low_100 - low_500) < 0.02 * np.linalg.norm(low_500)


def test_a_seed_gives_the_same_samples_and_another_seed_others() -> None:
    first, _ = simulate_condition(["AFIB"], seed=8)
    again, _ = simulate_condition(["AFIB"], seed=8)
    other, _ = simulate_condition(["AFIB"], seed=9)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert not np.allclose(first.samples, other.samples)


def test_a_larger_cohort_begins_with_the_smaller_one() -> None:
    small, large = (SimulatorConfig(num_patients=n, sampling_rate_hz=100, seed=4) for n in (30, 90))
    members = cohort(small)
    assert cohort(large)[: len(members)] == members
    last = members[-1]
    np.testing.assert_array_equal(simulate_member(small, last)[0].samples, simulate_member(large, last)[0].samples)


def test_cohort_has_its_shares_its_patients_and_consistent_labels() -> None:
    config = SimulatorConfig(num_patients=400, recordings_per_patient_max=3, seed=11)
    members = cohort(config)
    assert [m.index for m in members] == list(range(len(members)))
    assert len({m.record_id for m in members}) == len(members)
    patients = {m.patient_id: m for m in members}
    assert len(patients) == 400
    assert {sum(m.patient_id == p for m in members) for p in list(patients)[:40]} == {1, 2, 3}
    for member in members:
        same = patients[member.patient_id]
        assert (member.conditions, member.age_years, member.sex) == (same.conditions, same.age_years, same.sex)
        assert set(member.conditions) <= set(CONDITIONS)
        assert "NORM" not in member.conditions or (len(member.conditions) == 1 and not member.findings)
        assert member.conditions or member.findings
        assert not {"CLBBB", "CRBBB"} <= set(member.conditions)
        assert len({"AFIB", "AFLT", "1AVB"} & set(member.conditions)) <= 1
        assert 18 <= member.age_years <= 95
    share = {c: np.mean([c in m.conditions for m in patients.values()]) for c in CONDITIONS}
    assert share["NORM"] == pytest.approx(0.26, abs=0.01)
    assert min(share.values()) > 0.07
    assert np.mean([not m.conditions for m in patients.values()]) == pytest.approx(0.12, abs=0.01)
    assert any(len(m.conditions) == 2 for m in patients.values())


def test_condition_shares_are_followed() -> None:
    config = SimulatorConfig(num_patients=60, condition_shares={"NORM": 2.0, OTHER: 1.0})
    labels = [m.conditions for m in {m.patient_id: m for m in cohort(config)}.values()]
    assert set(labels) == {("NORM",), ()}
    assert labels.count(("NORM",)) == pytest.approx(40, abs=1)


def test_both_recordings_of_a_patient_show_one_heart() -> None:
    config = SimulatorConfig(num_patients=40, sampling_rate_hz=250, noise_level=0, condition_shares={"NORM": 1.0})
    members = cohort(config)
    pairs = [(a, b) for a, b in zip(members, members[1:], strict=False) if a.patient_id == b.patient_id][:8]
    assert len(pairs) == 8

    def qrs(member_index: int) -> np.ndarray:
        recording, truth = simulate_member(config, members[member_index])
        return mean_beat(recording, truth, before_s=0.05, after_s=0.05).ravel()

    own = [np.corrcoef(qrs(a.index), qrs(b.index))[0, 1] for a, b in pairs]
    stranger = [
        np.corrcoef(qrs(a.index), qrs(c.index))[0, 1] for (a, _), (_, c) in zip(pairs, pairs[1:], strict=False)
    ]
    assert np.median(own) > 0.97
    assert np.median(stranger) < np.median(own) - 0.02


def test_fibrillation_is_irregular_and_sinus_rhythm_is_not() -> None:
    fibrillation, normal = (
        np.array([variation_of_rr(simulate_condition([c], seed=s, sampling_rate_hz=100)[1]) for s in range(40)])
        for c in ("AFIB", "NORM")
    )
    assert np.median(fibrillation) > 0.15
    assert fibrillation.min() > 0.06
    assert np.median(normal) < 0.06
    assert auroc(fibrillation, normal) > 0.95


def test_fibrillation_has_no_p_and_a_wave_in_v1_instead() -> None:
    p_height, v1_power = {}, {}
    for condition in ("NORM", "AFIB"):
        heights, powers = [], []
        for seed in SEEDS:
            recording, truth = simulate_condition([condition], seed=seed, duration_s=40, noise_level=0)
            assert (truth.pr_ms is None) == (condition == "AFIB")
            before_qrs = mean_beat(recording, truth, before_s=0.25, after_s=0.0)[:, :90]
            heights.append(np.ptp(before_qrs[LEAD["II"]]))
            spectrum = np.abs(np.fft.rfft(recording.samples[LEAD["V1"]] - recording.samples[LEAD["V1"]].mean())) ** 2
            hz = np.fft.rfftfreq(recording.samples.shape[1], 1 / 500)
            peak_s = truth.r_peak_times_s
            assert np.diff(peak_s).min() > 0.2
            powers.append(spectrum[(hz > 4) & (hz < 9)].sum() / spectrum[hz > 0.5].sum())
        p_height[condition], v1_power[condition] = np.array(heights), np.array(powers)
    assert np.median(p_height["NORM"]) > 3 * np.median(p_height["AFIB"])


def pr_ms(recording: Recording, truth: Truth) -> float:
    """P onset to QRS onset, off the mean beat of a noiseless recording, by thresholds on how fast it moves."""
    beat = mean_beat(recording, truth, before_s=0.5, after_s=0.1)
    pace = speed(beat)
    qrs_onset = int(np.argmax(pace > 0.05 * pace.max()))
    # The P is the fastest thing that comes at least 15 ms before the QRS.
    before = pace[: qrs_onset - 15]
    fastest = int(before.argmax())
    p_onset = fastest - int(np.argmax(before[fastest::-1] < 0.25 * before[fastest]))
    return 1000 * (qrs_onset - p_onset) / recording.sampling_rate_hz


def test_pr_is_long_in_first_degree_block_in_truth_and_in_the_signal() -> None:
    for seed in SEEDS:
        long, normal = (
            simulate_condition(
                [*labels], seed=seed, sampling_rate_hz=1000, noise_level=0, findings=["bradycardia", *findings]
            )
            for labels, findings in ((["1AVB"], []), ([], []))
        )
        assert 200 < long[1].pr_ms <= 350
        assert 120 <= normal[1].pr_ms < 200
        assert pr_ms(*long) == pytest.approx(long[1].pr_ms, abs=35)
        assert pr_ms(*normal) == pytest.approx(normal[1].pr_ms, abs=35)


def qrs_ms(recording: Recording, truth: Truth) -> float:
    beat = mean_beat(recording, truth, before_s=0.16, after_s=0.16)
    pace = speed(beat)
    inside = np.flatnonzero(pace > 0.08 * pace.max())
    return 1000 * (inside[-1] - inside[0]) / recording.sampling_rate_hz


@pytest.mark.parametrize(
    ("condition", "low", "high"), [("NORM", 75, 110), ("CLBBB", 120, 180), ("CRBBB", 120, 160), ("AFIB", 75, 110)]
)
def test_qrs_duration_in_truth_and_in_the_signal(condition: str, low: float, high: float) -> None:
    for seed in SEEDS:
        recording, truth = simulate_condition([condition], seed=seed, sampling_rate_hz=1000, noise_level=0)
        assert low <= truth.qrs_ms <= high
        print(condition, seed, truth.qrs_ms, qrs_ms(recording, truth))


def test_print_blocks() -> None:
    for seed in range(12):
        for condition in ("CLBBB", "CRBBB"):
            recording, truth = simulate_condition([condition], seed=seed, sampling_rate_hz=500, noise_level=0)
            b = mean_beat(recording, truth, before_s=0.1, after_s=0.1)
            b = b - b[:, :5].mean(axis=1, keepdims=True)
            print(condition, seed, {l: (round(b[LEAD[l]].min(), 2), round(b[LEAD[l]].max(), 2), round(b[LEAD[l]].mean(), 2)) for l in ("I", "V1", "V6")})
            t = simulate_condition([condition], seed=seed, sampling_rate_hz=500, noise_level=0)
    assert 0
