"""The preprocessing contract against values of the original implementation, scipy, and properties."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from hubert_ecg.ecg.filters import bandpass, decimate, resample, scale_min_max
from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input, prepare_waveform, scaled_waveform
from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.errors import ConfigError, InputError, RecordingError

OURS = PreprocessConfig()
ORIGINAL = PreprocessConfig(contract="original")


def _recording(samples: np.ndarray, rate_hz: float = 500, name: str = "r1") -> Recording:
    return Recording(samples=samples.astype(np.float32), sampling_rate_hz=rate_hz, record_id=name)


def _ecg_like(seed: int = 0, duration_s: float = 10, rate_hz: float = 500) -> np.ndarray:
    """[12, time] mV: peaks over a wandering baseline and an electrode offset."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    phase = (time_s[None] - rng.uniform(0, 0.8, (12, 1))) % 0.8
    beats = rng.uniform(-2, 2, (12, 1)) * np.exp(-(((phase - 0.3) / 0.02) ** 2))
    wander = 0.2 * np.sin(2 * np.pi * 0.3 * time_s + rng.uniform(0, 6, (12, 1)))
    return beats + wander + rng.uniform(-3, 3, (12, 1)) + 0.01 * rng.standard_normal((12, len(time_s)))


@pytest.mark.parametrize(("name", "rate_hz"), [("00001_hr", 500), ("00002_hr", 500), ("00001_lr", 100), ("257hz", 257)])
def test_scaled_signal_equals_the_original(shared_dir: Path, name: str, rate_hz: float) -> None:
    with np.load(shared_dir / "reference" / "preprocessing.npz") as reference:
        raw, expected = reference[f"{name}.raw_mV"], reference[f"{name}.out"]
    scaled, _, _ = scaled_waveform(_recording(raw, rate_hz), OURS)
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


def test_model_input_equals_the_original_in_its_order(shared_dir: Path) -> None:
    with np.load(shared_dir / "reference" / "model_input.npz") as reference:
        crop, expected = reference["crop_500hz"], reference["flattened_then_decimated"]
    np.testing.assert_allclose(model_input(crop, 0.0, ORIGINAL), expected, atol=2e-5)


def test_decimation_lead_by_lead_equals_the_reference(shared_dir: Path) -> None:
    with np.load(shared_dir / "reference" / "model_input.npz") as reference:
        crop, expected = reference["crop_500hz"], reference["per_lead_decimated"]
    np.testing.assert_allclose(decimate(crop, 5), expected, atol=2e-5)


def test_stored_counts_give_the_original_model_input(shared_dir: Path) -> None:
    with np.load(shared_dir / "reference" / "preprocessing.npz") as reference:
        raw, scaled = reference["00001_hr.raw_mV"], reference["00001_hr.out"].astype(np.float64)
    start = 1250
    flattened = scaled[:, start : start + 2500].reshape(-1)
    original = model_input(prepare_waveform(_recording(raw), ORIGINAL).counts, 2.5, ORIGINAL)
    np.testing.assert_allclose(original, signal.decimate(flattened, 5), atol=5e-5)
    ours = model_input(prepare_waveform(_recording(raw), OURS).counts, 2.5, OURS)
    np.testing.assert_allclose(ours, signal.decimate(scaled, 5)[:, 250:750].reshape(-1), atol=5e-5)


@pytest.mark.parametrize("rate_hz", [100, 128.5, 257, 500, 1000])
@pytest.mark.parametrize("duration_s", [5, 7.3])
def test_bandpass_equals_filtfilt(rate_hz: float, duration_s: float) -> None:
    samples = _ecg_like(duration_s=duration_s, rate_hz=rate_hz)
    num_taps = int(0.3 * rate_hz)
    num_taps += num_taps % 2 == 0
    taps = signal.firwin(num_taps, [0.05, 47], pass_zero=False, fs=rate_hz)
    filtered = bandpass(samples.astype(np.float32), low_hz=0.05, high_hz=47.0, sampling_rate_hz=rate_hz)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered, signal.filtfilt(taps, 1, samples), atol=3e-6)


@settings(max_examples=40, deadline=None)
@given(factor=st.sampled_from([2, 5, 10]), length=st.integers(60, 6100), seed=st.integers(0, 99))
def test_decimate_equals_scipy_at_every_length(factor: int, length: int, seed: int) -> None:
    walk = np.random.default_rng(seed).standard_normal((2, length)).cumsum(axis=1)
    walk /= np.abs(walk).max()
    decimated = decimate(walk, factor)
    assert decimated.dtype == np.float32
    np.testing.assert_allclose(decimated, signal.decimate(walk, factor, axis=-1), atol=5e-6)


def test_resample_keeps_a_sine() -> None:
    sine = np.sin(2 * np.pi * 4 * np.arange(300) / 300)[None]
    np.testing.assert_allclose(resample(sine, 500), np.sin(2 * np.pi * 4 * np.arange(500) / 500)[None], atol=1e-12)


def test_scale_min_max_by_hand() -> None:
    scaled, offset, gain = scale_min_max(np.array([[0.0, 1.0, 4.0], [2.0, 2.0, 2.0]]))
    np.testing.assert_allclose(scaled, [[-1, -0.5, 1], [-1, -1, -1]], atol=1e-7)
    np.testing.assert_allclose((offset, gain), ([2, 2], [2, 5e-9]), atol=1e-7)


@pytest.mark.parametrize("config", [OURS, ORIGINAL])
def test_millivolts_come_back_from_counts(config: PreprocessConfig) -> None:
    samples = _ecg_like()
    waveform = prepare_waveform(_recording(samples), config)
    assert waveform.counts.dtype == np.int16
    assert waveform.counts.shape == (12, 10 * config.table_rate_hz)
    assert waveform.offset_mv.dtype == waveform.gain_mv.dtype == np.float32
    filtered = bandpass(samples.astype(np.float32), low_hz=0.05, high_hz=47.0, sampling_rate_hz=500)
    expected = filtered[:, :: 500 // config.table_rate_hz]
    ranges = np.ptp(filtered, axis=1)
    error = np.abs(waveform.millivolts(config) - expected).max(axis=1)
    assert (error <= (0.03 if config is OURS else 5e-5) * ranges).all()
    # The baseline, where decimation changes nothing but its own constant gain, comes back much closer.
    medians = np.median(waveform.millivolts(config), axis=1) - np.median(expected, axis=1)
    assert (np.abs(medians) <= 0.005 * ranges).all()


def test_a_lead_and_its_neighbours_do_not_mix_in_our_contract() -> None:
    samples = _ecg_like()
    changed = samples.copy()
    changed[1] = _ecg_like(seed=9)[1]
    before, after = (prepare_waveform(_recording(s), OURS).counts for s in (samples, changed))
    np.testing.assert_array_equal(np.delete(before, 1, axis=0), np.delete(after, 1, axis=0))
    assert (before[1] != after[1]).any()


def test_scaling_does_not_depend_on_units_or_offset() -> None:
    samples = _ecg_like()
    scaled, _, _ = scaled_waveform(_recording(samples), OURS)
    other, _, _ = scaled_waveform(_recording(samples * 4 + 200), OURS)
    np.testing.assert_allclose(other, scaled, atol=1e-4)


def test_transposed_arrays_give_the_same_counts() -> None:
    samples = _ecg_like().astype(np.float32)
    np.testing.assert_array_equal(
        prepare_waveform(_recording(samples), OURS).counts,
        prepare_waveform(_recording(np.asfortranarray(samples)), OURS).counts,
    )


def test_missing_runs_are_interpolated_and_end_runs_held() -> None:
    samples = _ecg_like().astype(np.float32)
    broken, repaired = samples.copy(), samples.copy()
    broken[0, :100] = np.nan
    repaired[0, :100] = samples[0, 100]
    broken[3, 1000:1003] = [np.nan, np.inf, -np.inf]
    repaired[3, 1000:1003] = np.linspace(samples[3, 999], samples[3, 1003], 5)[1:-1]
    broken[11, 4000:] = np.nan
    repaired[11, 4000:] = samples[11, 3999]
    waveform = prepare_waveform(_recording(broken), OURS)
    expected = prepare_waveform(_recording(repaired), OURS).counts
    expected[11, 800:] = 0  # nothing was recorded there
    np.testing.assert_array_equal(waveform.counts, expected)
    assert waveform.valid_samples.tolist() == [1000] * 11 + [800]
    found = [(f.kind, f.severity, f.lead, f.start_s, f.end_s) for f in waveform.findings]
    assert found == [
        ("filled", "warning", "I", 0.0, 0.2),
        ("filled", "info", "aVR", 2.0, 2.006),
        ("padded", "warning", "V6", 8.0, 10.0),
    ]
    assert np.isnan(broken[0, 0]), "the caller's array is left alone"


def test_a_lead_mostly_missing_is_refused_and_half_missing_is_not() -> None:
    samples = _ecg_like()
    samples[7, :2500] = np.nan
    assert prepare_waveform(_recording(samples), OURS).counts.shape == (12, 1000)
    samples[7, 2500] = np.nan
    with pytest.raises(RecordingError, match="r1: lead V2 is missing for 50%") as caught:
        prepare_waveform(_recording(samples), OURS)
    assert caught.value.reason == "not a number"


def test_an_all_nan_recording_is_refused() -> None:
    with pytest.raises(RecordingError) as caught:
        prepare_waveform(_recording(np.full((12, 5000), np.nan)), OURS)
    assert caught.value.reason == "not a number"


@pytest.mark.parametrize("rate_hz", [500, 257])
def test_a_flat_lead_becomes_a_constant_and_not_amplified_noise(rate_hz: float) -> None:
    samples = _ecg_like(rate_hz=rate_hz)
    samples[4] = 1.234
    scaled, offset, gain = scaled_waveform(_recording(samples, rate_hz), OURS)
    assert (scaled[4] == -1).all()
    assert np.isfinite(offset).all()
    assert (gain > 0).all()
    assert np.ptp(prepare_waveform(_recording(samples, rate_hz), OURS).counts[4]) <= 1


def test_a_recording_flat_in_all_leads_is_refused() -> None:
    with pytest.raises(RecordingError) as caught:
        prepare_waveform(_recording(np.arange(12.0)[:, None].repeat(5000, axis=1)), OURS)
    assert caught.value.reason == "flat"


@pytest.mark.parametrize(
    ("num_samples", "rate_hz", "reason", "message"),
    [
        (2499, 500, "too short", "wanted at least 5 s, got 4.998 s"),
        (940, 94, "sampling rate too low", "wanted more than 94 Hz.*got 94 Hz"),
    ],
)
def test_what_cannot_be_used_is_refused(num_samples: int, rate_hz: float, reason: str, message: str) -> None:
    with pytest.raises(RecordingError, match=message) as caught:
        prepare_waveform(_recording(np.zeros((12, num_samples)), rate_hz), OURS)
    assert caught.value.reason == reason


def test_leads_out_of_order_are_refused() -> None:
    names = (*STANDARD_LEADS[:2], "aVR", "III", *STANDARD_LEADS[4:])
    with pytest.raises(RecordingError, match="call standard_12_lead first"):
        prepare_waveform(replace(_recording(_ecg_like()), lead_names=names), OURS)


def test_exactly_the_shortest_recording_makes_one_crop() -> None:
    for rate_hz in (100, 257, 500):
        counts = prepare_waveform(_recording(_ecg_like(duration_s=5, rate_hz=rate_hz), rate_hz), OURS).counts
        assert model_input(counts, 0.0, OURS).shape == (6000,)


@pytest.mark.parametrize("sampling_rate_hz", [50, 100, 500])
@pytest.mark.parametrize("contract", ["ours", "original"])
def test_model_input_has_the_models_length_at_every_rate(contract: str, sampling_rate_hz: int) -> None:
    config = PreprocessConfig(contract=contract, sampling_rate_hz=sampling_rate_hz)  # type: ignore[arg-type]
    waveform = prepare_waveform(_recording(_ecg_like()), config)
    flat = model_input(waveform.counts, 5.0, config)
    assert flat.shape == (12 * config.crop_samples,) == (60 * sampling_rate_hz,)
    assert flat.dtype == np.float32
    assert np.abs(flat).max() < 1.5


@pytest.mark.parametrize("config", [OURS, ORIGINAL])
def test_a_batch_of_crops_equals_its_single_crops(config: PreprocessConfig) -> None:
    counts = np.stack([prepare_waveform(_recording(_ecg_like(seed)), config).counts for seed in range(3)])
    starts_s = np.array([0.0, 5.0, 1.37])
    batch = model_input(counts, starts_s, config)
    for row, waveform, start_s in zip(batch, counts, starts_s, strict=True):
        np.testing.assert_allclose(row, model_input(waveform, float(start_s), config), atol=5e-6)
    np.testing.assert_allclose(model_input(counts, 2.0, config)[1], model_input(counts[1], 2.0, config), atol=5e-6)


def test_our_crop_is_a_cut_of_the_stored_leads() -> None:
    counts = np.arange(12 * 1000, dtype=np.int16).reshape(12, 1000)
    flat = model_input(counts, 1.5, OURS).reshape(12, 500)
    np.testing.assert_array_equal(flat * 16384, counts[:, 150:650])


@pytest.mark.parametrize("start_s", [-0.01, 5.01])
def test_a_crop_beyond_the_waveform_is_refused(start_s: float) -> None:
    with pytest.raises(InputError, match="the waveform covers 0 to 10 s"):
        model_input(np.zeros((12, 1000), np.int16), start_s, OURS)


def test_config_survives_json() -> None:
    config = PreprocessConfig(contract="original", sampling_rate_hz=50, min_duration_s=8)
    assert PreprocessConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_rates_of_the_two_contracts() -> None:
    assert (OURS.table_rate_hz, OURS.crop_samples, OURS.table_crop_samples) == (100, 500, 500)
    assert (ORIGINAL.table_rate_hz, ORIGINAL.crop_samples, ORIGINAL.table_crop_samples) == (500, 500, 2500)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="notch_hz"):
        PreprocessConfig.from_dict({"notch_hz": 50})


@pytest.mark.parametrize(
    "settings_",
    [
        {"contract": "theirs"},
        {"low_hz": 50.0},
        {"low_hz": 0.0},
        {"scale_rate_hz": 90},
        {"sampling_rate_hz": 125},
        {"scale_rate_hz": 250, "sampling_rate_hz": 100},
        {"crop_s": 0.0},
        {"crop_s": 4.999},
        {"min_duration_s": 0.9},
        {"missing_leads": "guess"},
        {"attention_mask": "none"},
        {"counts_per_unit": 32768},
    ],
)
def test_impossible_settings_are_refused(settings_: dict) -> None:
    with pytest.raises(ConfigError):
        PreprocessConfig(**settings_)


@pytest.mark.parametrize("rate_hz", [100, 500])
def test_a_range_keeps_the_voltage_of_leads(rate_hz: float) -> None:
    config = replace(OURS, range_mv=5.0)
    samples = _ecg_like(rate_hz=rate_hz)
    waveform = prepare_waveform(_recording(samples, rate_hz), config)
    scaled = waveform.counts / config.counts_per_unit
    by_extremes = prepare_waveform(_recording(samples, rate_hz), OURS).millivolts(OURS)
    np.testing.assert_allclose(scaled * 5.0, by_extremes, rtol=0.015, atol=0.01)  # the ripple of decimation
    np.testing.assert_allclose(waveform.millivolts(config), by_extremes, atol=2e-3)


def test_beyond_a_range_is_cut_off() -> None:
    samples = _ecg_like()
    samples[2, 2000:2200] += 30.0
    counts = prepare_waveform(_recording(samples), replace(OURS, range_mv=5.0)).counts
    assert counts[2].max() > 16384  # the ripple of decimation at the edge, which has its headroom
    assert counts[2].max() < 1.3 * 16384


def test_a_contract_from_before_there_were_ranges_says_the_same() -> None:
    assert "range_mv" not in OURS.to_dict()
    assert PreprocessConfig.from_dict(OURS.to_dict()) == OURS
    other = replace(OURS, range_mv=5.0)
    assert PreprocessConfig.from_dict(other.to_dict()) == other
    assert OURS.differences(other) == {"range_mv": (0.0, 5.0)}


def test_an_impossible_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="range_mv"):
        PreprocessConfig(range_mv=0.001)
