"""The simulator keeps its word: lead identities, measurable mechanisms, the same ECG at any rate, no giveaways."""

import itertools
from typing import Any

import numpy as np
import pytest

from hubert_ecg.ecg import simulate_rhythm
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
from hubert_ecg.ecg.simulate_waves import BeatKind
from hubert_ecg.errors import ConfigError

SEEDS = range(12)
LEAD = {name: row for row, name in enumerate(STANDARD_LEADS)}


def mean_beat(recording: Recording, truth: Truth, *, before_s: float, after_s: float) -> np.ndarray:
    """[lead, time] mean of the beats around their R peaks, baseline left as it is."""
    rate = recording.sampling_rate_hz
    starts = np.round((truth.r_peak_times_s - before_s) * rate).astype(int)
    length = round((before_s + after_s) * rate)
    beats = [
        recording.samples[:, s : s + length] for s in starts if s >= 0 and s + length <= recording.samples.shape[1]
    ]
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
    """Probability that a positive exceeds a negative, ties counting half."""
    above, level = positive[:, None] > negative[None, :], positive[:, None] == negative[None, :]
    return float((above + 0.5 * level).mean())


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
    low_500 = np.fft.rfft(noisy_500.samples, axis=1)[:, lines] / 5
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


def test_order_of_the_shares_does_not_matter() -> None:
    one, other = {"AFIB": 1.0, "NORM": 1.0, OTHER: 1.0}, {OTHER: 1.0, "NORM": 1.0, "AFIB": 1.0, "CRBBB": 0.0}
    assert cohort(SimulatorConfig(condition_shares=one)) == cohort(SimulatorConfig(condition_shares=other))


def test_premature_beats_come_early_and_only_a_ventricular_one_pauses_fully() -> None:
    regular = simulate_rhythm.Beats(onset_s=np.arange(20.0), kind=np.zeros(20, int))
    rng = np.random.default_rng(0)
    settings = {"premature_atrial": 0.0, "premature_ventricular": 0.0, "duration_s": 19.0}
    early = simulate_rhythm.with_ectopic_beats(rng, regular, **settings | {"premature_ventricular": 0.4})
    ectopic = np.flatnonzero(early.kind == BeatKind.VENTRICULAR)
    assert ectopic.size >= 2
    np.testing.assert_allclose(early.onset_s[ectopic + 1] - early.onset_s[ectopic - 1], 2.0)
    assert (early.onset_s[ectopic] - early.onset_s[ectopic - 1] < 0.83).all()
    early = simulate_rhythm.with_ectopic_beats(rng, regular, **settings | {"premature_atrial": 0.4})
    ectopic = np.flatnonzero(early.kind == BeatKind.ATRIAL)
    assert ectopic.size >= 2
    np.testing.assert_allclose(early.onset_s[ectopic + 1] - early.onset_s[ectopic], 1.0)
    assert (early.onset_s[ectopic] - early.onset_s[ectopic - 1] < 0.83).all()


def test_both_recordings_of_a_patient_show_one_heart() -> None:
    config = SimulatorConfig(num_patients=40, sampling_rate_hz=250, noise_level=0, condition_shares={"NORM": 1.0})
    members = cohort(config)
    pairs = [(a, b) for a, b in itertools.pairwise(members) if a.patient_id == b.patient_id][:8]
    assert len(pairs) == 8

    def qrs(member_index: int) -> np.ndarray:
        recording, truth = simulate_member(config, members[member_index])
        return mean_beat(recording, truth, before_s=0.05, after_s=0.05).ravel()

    own = [np.corrcoef(qrs(a.index), qrs(b.index))[0, 1] for a, b in pairs]
    stranger = [np.corrcoef(qrs(a.index), qrs(c.index))[0, 1] for (a, _), (_, c) in itertools.pairwise(pairs)]
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


def test_fibrillation_has_no_p() -> None:
    height = {}
    for condition in ("NORM", "AFIB"):
        recordings = [simulate_condition([condition], seed=seed, duration_s=40, noise_level=0) for seed in SEEDS]
        assert all((truth.pr_ms is None) == (condition == "AFIB") for _, truth in recordings)
        # f-waves are not locked to the QRS, so the mean over many beats keeps the P and loses them.
        before_qrs = [mean_beat(*pair, before_s=0.25, after_s=0.0)[LEAD["II"], :90] for pair in recordings]
        height[condition] = np.median([np.ptp(wave) for wave in before_qrs])
    assert height["NORM"] > 0.06
    assert height["NORM"] > 3 * height["AFIB"]


def test_f_waves_oscillate_at_4_to_9_hz_and_most_in_v1() -> None:
    times_s = np.arange(0, 40, 1 / 250)
    hz = np.fft.rfftfreq(times_s.size, 1 / 250)
    to_v1, amplitudes = 0, []
    for seed in range(40):
        dipole = simulate_rhythm.fibrillatory_waves(np.random.default_rng(seed), times_s)
        power = (np.abs(np.fft.rfft(dipole, axis=1)) ** 2).sum(axis=0)
        assert 3.5 < hz[power.argmax()] < 9.5
        v1, v6 = np.array([-0.515, 0.157, -0.917]) @ dipole, np.array([0.831, 0.076, 0.230]) @ dipole
        to_v1 += v1.std() > v6.std()
        amplitudes.append(np.ptp(v1))
    assert to_v1 >= 34
    assert min(amplitudes) < 0.05 < 0.2 < max(amplitudes) < 1.2


def test_flutter_runs_at_4_to_6_hz_in_lead_ii() -> None:
    peaks_hz = []
    for seed in range(30):
        recording, truth = simulate_condition(["AFLT"], seed=seed, sampling_rate_hz=250, duration_s=30, noise_level=0)
        assert truth.pr_ms is None
        lead = recording.samples[LEAD["II"]].astype(float)
        # Each QRS and T is blanked, so that the spectrum is of the atria; fast rates leave too little.
        times_s = np.arange(lead.size) / 250
        since_s = times_s - truth.r_peak_times_s[np.searchsorted(truth.r_peak_times_s, times_s, side="right") - 1]
        quiet = since_s > 0.45
        if quiet.mean() > 0.25:
            power = np.abs(np.fft.rfft(np.where(quiet, lead - lead[quiet].mean(), 0))) ** 2
            hz = np.fft.rfftfreq(lead.size, 1 / 250)
            power[(hz < 3) | (hz > 9)] = 0
            peaks_hz.append(hz[power.argmax()])
    assert len(peaks_hz) >= 10
    assert np.mean([4 <= peak <= 6 for peak in peaks_hz]) >= 0.85


@pytest.mark.parametrize("heart_rate_bpm", [72.0, 98.0, 150.0])
def test_flutter_conducts_every_second_to_fourth_wave(heart_rate_bpm: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        circuit = simulate_rhythm.flutter_circuit(rng, heart_rate_bpm=heart_rate_bpm)
        assert 240 <= 60 * circuit.rate_hz <= 350
        beats = simulate_rhythm.flutter_beats(rng, circuit=circuit, heart_rate_bpm=heart_rate_bpm, duration_s=20)
        waves_per_beat = np.diff(beats.onset_s) * circuit.rate_hz
        assert set(np.round(waves_per_beat)) <= {2, 3, 4}
        np.testing.assert_allclose(waves_per_beat, np.round(waves_per_beat), atol=0.35)


def pr_ms(recording: Recording, truth: Truth) -> float:
    """P onset to QRS onset, off the mean beat of a noiseless recording, by thresholds on how fast it moves."""
    before_s = 0.5
    beat = mean_beat(recording, truth, before_s=before_s, after_s=0.1)
    pace = speed(beat)
    peak = round((before_s - 0.01) * recording.sampling_rate_hz)
    qrs_onset = int(np.flatnonzero(pace[:peak] < 0.05 * pace.max())[-1])
    fastest = int(pace[: qrs_onset - 15].argmax())
    p_onset = int(np.flatnonzero(pace[:fastest] < 0.3 * pace[fastest])[-1])
    return 1000 * (qrs_onset - p_onset) / recording.sampling_rate_hz


def test_pr_is_long_in_first_degree_block_in_truth_and_in_the_signal() -> None:
    for seed in SEEDS:
        slow = {"seed": seed, "sampling_rate_hz": 1000, "noise_level": 0, "findings": ["bradycardia"]}
        long, normal = simulate_condition(["1AVB"], **slow), simulate_condition([], **slow)
        assert 200 < long[1].pr_ms <= 350
        assert 120 <= normal[1].pr_ms < 200
        assert pr_ms(*long) == pytest.approx(long[1].pr_ms, abs=20)
        assert pr_ms(*normal) == pytest.approx(normal[1].pr_ms, abs=20)


def qrs_ms(recording: Recording, truth: Truth) -> float:
    """QRS duration off the mean beat of a noiseless recording: from first to last fast movement near the R peak."""
    pace = speed(mean_beat(recording, truth, before_s=0.16, after_s=0.16))
    inside = np.flatnonzero(pace > 0.12 * pace.max())
    return 1000 * (inside[-1] - inside[0]) / recording.sampling_rate_hz


@pytest.mark.parametrize(
    ("condition", "low", "high"), [("NORM", 75, 110), ("CLBBB", 120, 180), ("CRBBB", 120, 160), ("AFIB", 75, 110)]
)
def test_qrs_duration_in_truth_and_in_the_signal(condition: str, low: float, high: float) -> None:
    for seed in SEEDS:
        recording, truth = simulate_condition([condition], seed=seed, sampling_rate_hz=1000, noise_level=0)
        assert low <= truth.qrs_ms <= high
        assert qrs_ms(recording, truth) == pytest.approx(truth.qrs_ms, abs=20)


def mean_qrs(condition: str, seed: int) -> np.ndarray:
    """[lead, time] the mean QRS of a noiseless recording at 1000 Hz, measured from the level at its onset."""
    recording, truth = simulate_condition([condition], seed=seed, sampling_rate_hz=1000, noise_level=0)
    beat = mean_beat(recording, truth, before_s=0.14, after_s=0.16)
    pace = speed(beat)
    onset = int(np.argmax(pace > 0.06 * pace.max()))
    qrs = beat[:, onset : onset + round(truth.qrs_ms)]
    return qrs - qrs[:, :1]


def test_right_bundle_branch_block_ends_towards_v1_and_away_from_i_and_v6() -> None:
    for seed in range(20):
        qrs = mean_qrs("CRBBB", seed)
        v1, i, v6 = (qrs[LEAD[name]] for name in ("V1", "I", "V6"))
        late = slice(round(0.55 * v1.size), round(0.9 * v1.size))
        assert v1[late].max() > 0.05
        assert v1[late].max() > 0.7 * v1.max()
        assert i[late].mean() < 0.01
        assert v6[late].mean() < 0


def test_left_bundle_branch_block_leaves_v1_and_goes_to_v6_without_a_q() -> None:
    for seed in range(20):
        qrs = mean_qrs("CLBBB", seed)
        v1, i, v6 = (qrs[LEAD[name]] for name in ("V1", "I", "V6"))
        assert v1.mean() < -0.1
        assert v1.max() < 0.2 * -v1.min()
        assert v6.mean() > 0.05
        assert v6.min() > -0.15 * v6.max()
        assert i.mean() > 0


def test_t_wave_is_discordant_in_bundle_branch_block() -> None:
    opposite = {"CLBBB": [], "CRBBB": []}
    for condition, answers in opposite.items():
        for seed in range(20):
            recording, truth = simulate_condition([condition], seed=seed, noise_level=0)
            beat = mean_beat(recording, truth, before_s=0.1, after_s=0.45)[LEAD["V1"]]
            beat = beat - np.median(recording.samples[LEAD["V1"]])
            t_wave = beat[round(0.25 * 500) :]
            last_deflection = mean_qrs(condition, seed)[LEAD["V1"]]
            last_deflection = last_deflection[round(0.55 * last_deflection.size) : round(0.9 * last_deflection.size)]
            answers.append(t_wave[np.abs(t_wave).argmax()] * last_deflection.mean() < 0)
    assert np.mean(opposite["CLBBB"]) >= 0.9
    assert np.mean(opposite["CRBBB"]) >= 0.6


@pytest.mark.parametrize("findings", [[], ["premature ventricular beats"]])
def test_r_peaks_of_the_truth_are_peaks_of_the_signal(findings: list[str]) -> None:
    for condition in CONDITIONS:
        for seed in range(3):
            recording, truth = simulate_condition([condition], seed=seed, noise_level=0, findings=findings)
            size = np.linalg.norm(recording.samples[[0, 1, 6, 7, 8, 9, 10, 11]], axis=0)
            for peak_s in truth.r_peak_times_s[1:-1]:
                around = slice(round((peak_s - 0.06) * 500), round((peak_s + 0.06) * 500))
                assert abs(int(size[around].argmax()) - 30) <= 20
            rr = np.diff(truth.r_peak_times_s)
            assert truth.heart_rate_bpm == pytest.approx(60 / rr.mean())


def test_voltages_and_rates_are_those_of_adults() -> None:
    config = SimulatorConfig(num_patients=80, sampling_rate_hz=250, noise_level=0)
    simulated = [(member, *simulate_member(config, member)) for member in cohort(config)]
    tallest = np.array([recording.samples[6:].max() for _, recording, _ in simulated])
    assert 1.0 < np.median(tallest) < 2.5
    assert tallest.min() > 0.25
    assert tallest.max() < 7
    for member, _, truth in simulated:
        assert 35 < truth.heart_rate_bpm < 190
        assert 250 < truth.qt_ms < 560
        if "premature atrial beats" not in member.findings and not {"AFIB", "AFLT"} & set(member.conditions):
            assert truth.heart_rate_bpm == pytest.approx(member.heart_rate_bpm, rel=0.12)


def test_no_nuisance_gives_a_condition_away() -> None:
    config = SimulatorConfig(num_patients=250, duration_s=2, recordings_per_patient_max=1, seed=2)
    members = cohort(config)
    hiss = []
    for member in members:
        # Nothing of the heart is left above 115 Hz.
        spectrum = np.abs(np.fft.rfft(simulate_member(config, member)[0].samples[:2], axis=1))
        hz = np.fft.rfftfreq(round(config.duration_s * config.sampling_rate_hz), 1 / config.sampling_rate_hz)
        hiss.append(spectrum[:, (hz > 115) & (hz < 150)].mean())
    nuisances = {
        "noise above 115 Hz": np.array(hiss),
        "age": np.array([m.age_years for m in members]),
        "sex": np.array([float(m.sex == "male") for m in members]),
    }
    for condition in CONDITIONS:
        has = np.array([condition in m.conditions for m in members])
        for name, values in nuisances.items():
            assert auroc(values[has], values[~has]) == pytest.approx(0.5, abs=0.14), (condition, name)


def test_noise_is_the_same_whatever_the_condition() -> None:
    normal, block = (
        simulate_condition([c], seed=6)[0].samples - simulate_condition([c], seed=6, noise_level=0)[0].samples
        for c in ("NORM", "1AVB")
    )
    # What remains of the difference is the gain error times the heart's signal.
    assert np.corrcoef(normal.ravel(), block.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_patients": 0}, "num_patients: wanted 1 or more, got 0"),
        ({"recordings_per_patient_max": 0}, "recordings_per_patient_max: wanted 1"),
        ({"sampling_rate_hz": 20.0}, "sampling_rate_hz: wanted a number of 50 or more"),
        ({"sampling_rate_hz": float("nan")}, "sampling_rate_hz"),
        ({"duration_s": 0.5}, "duration_s: wanted a number of 1 or more, got 0.5"),
        ({"noise_level": -1.0}, "noise_level: wanted a number of 0 or more"),
        ({"seed": -1}, "seed: wanted 0 or more"),
        ({"condition_shares": {"AFIP": 1.0}}, "AFIP"),
        ({"condition_shares": {"AFIB": -1.0}}, "shares of 0 or more"),
        ({"condition_shares": {"AFIB": 0.0}}, "not all 0"),
        ({"condition_shares": {}}, "not all 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimulatorConfig(**settings)


@pytest.mark.parametrize("labels", [["VT"], ["NORM", "AFIB"], ["CLBBB", "CRBBB"], ["AFIB", "AFLT"], ["AFIB", "1AVB"]])
def test_impossible_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(ConfigError, match="conditions: wanted"):
        simulate_condition(labels, seed=0)


def test_unknown_finding_is_refused() -> None:
    with pytest.raises(ConfigError, match="findings: wanted some of"):
        simulate_condition(["AFIB"], seed=0, findings=["headache"])


def test_every_condition_has_a_title() -> None:
    assert list(CONDITION_TITLES) == list(CONDITIONS)
