"""Descriptors against the original's values, scipy and librosa on single windows, and hand-worked deltas."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from hubert_ecg.ecg import features
from hubert_ecg.ecg.features import TIME_FREQUENCY_COLUMNS, DescriptorConfig, mfcc, time_frequency, with_deltas
from hubert_ecg.ecg.tokens import CONV_STEMS, TokenGrid
from hubert_ecg.errors import ConfigError, InputError

NAMES = ("time_frequency", "mfcc", "mixed")
GRID = TokenGrid.at_rate(100)


def _inputs(batch: int = 3, rate_hz: int = 100, seed: int = 0) -> np.ndarray:
    """[batch, 60 * rate] float32 in [-1, 1]: smooth noise, as model inputs are."""
    walk = np.random.default_rng(seed).standard_normal((batch, 60 * rate_hz)).cumsum(axis=1)
    return (walk / np.abs(walk).max(axis=1, keepdims=True)).astype(np.float32)


def test_time_frequency_equals_the_original(shared_dir: Path) -> None:
    with np.load(shared_dir / "reference" / "features.npz") as reference:
        shards, expected, names = (reference[key] for key in ("shards", "time_frequency", "time_frequency_names"))
    assert tuple(names.tolist()) == TIME_FREQUENCY_COLUMNS
    # The sequence ends with the rest of the last token's receptive field, which no descriptor window covers.
    sequence = np.concatenate([shards.reshape(-1), np.zeros(48, np.float32)])
    np.testing.assert_allclose(time_frequency(sequence[None], GRID)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate_hz", sorted(CONV_STEMS))
def test_time_frequency_equals_scipy_at_every_rate(rate_hz: int) -> None:
    grid = TokenGrid.at_rate(rate_hz)
    inputs = _inputs(rate_hz=rate_hz)
    rows = time_frequency(inputs, grid)
    windows = grid.windows(inputs).astype(np.float64)
    spectrum = np.abs(np.fft.fft(windows)) ** 2 / grid.stride
    expected = {
        "std": windows.std(axis=-1),
        "skewness": stats.skew(windows, axis=-1),
        "kurtosis": stats.kurtosis(windows, axis=-1),
        "crest_factor": np.abs(windows).max(axis=-1) / np.sqrt((windows**2).mean(axis=-1)),
        "spectrum_max": spectrum.max(axis=-1),
        "spectrum_sum": spectrum.sum(axis=-1),
        "spectrum_var": spectrum.var(axis=-1),
    }
    for name, values in expected.items():
        column = rows[..., TIME_FREQUENCY_COLUMNS.index(name)]
        np.testing.assert_allclose(column, values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_mfcc_equals_what_librosa_gave_for_one_window() -> None:
    """librosa 0.11: feature.mfcc(y, sr=100, n_mfcc=13, n_fft=64, center=False, n_mels=20, fmin=0.05, fmax=47)."""
    time_s = np.arange(82) / 100
    inputs = 0.5 * np.sin(2 * np.pi * 3 * time_s) + 0.2 * np.cos(2 * np.pi * 11 * time_s) - 0.3
    inputs += 0.05 * np.sin(2 * np.pi * 30 * time_s**2)
    expected = [-77.563, 85.566, -15.191, 23.729, -4.804, 2.088, -0.496, 7.745, 7.447, 8.865, 2.737, -0.457, -4.622]
    np.testing.assert_allclose(mfcc(inputs[None].astype(np.float32), GRID, 100)[0, 0], expected, atol=2e-3)


# Slow only once per machine: librosa compiles parts of itself when its mfcc is first used.
@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", sorted(CONV_STEMS))
def test_mfcc_equals_librosa_on_single_windows(rate_hz: int) -> None:
    import librosa

    grid = TokenGrid.at_rate(rate_hz)
    inputs = _inputs(batch=2, rate_hz=rate_hz)
    inputs[1] = 0.8 * np.sin(np.arange(inputs.shape[1]) / 3) - 0.1
    rows = mfcc(inputs, grid, rate_hz)
    assert rows.shape == (2, 93, 13)
    for row, token in [(0, 0), (0, 41), (0, 92), (1, 7)]:
        expected = librosa.feature.mfcc(
            y=grid.windows(inputs)[row, token],
            sr=rate_hz,
            n_mfcc=13,
            n_fft=grid.stride,
            hop_length=grid.stride,
            center=False,
            n_mels=features.num_mel_filters(grid.stride, rate_hz, 0.05, 47.0),
            fmin=0.05,
            fmax=min(47.0, rate_hz / 2),
        )
        np.testing.assert_allclose(rows[row, token], expected[:, 0], rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("rate_hz", sorted(CONV_STEMS))
def test_mel_filters_cover_the_pass_band_and_none_is_empty(rate_hz: int) -> None:
    width = TokenGrid.at_rate(rate_hz).stride
    filters = features._mel_filters(width, rate_hz, 0.05, 47.0)
    assert (filters.max(axis=1) > 0).all()
    frequencies_hz = np.arange(width // 2 + 1) * rate_hz / width
    covered_hz = frequencies_hz[filters.max(axis=0) > 0]
    assert covered_hz[0] < 2
    assert 44 < covered_hz[-1] < 47 or rate_hz == 50


def test_original_fault_deltas_were_constant_zero() -> None:
    rows = DescriptorConfig(name="mfcc").compute(_inputs(batch=20)).reshape(-1, 39)
    assert (rows.std(axis=0) > 0.01).all()


def test_deltas_by_hand() -> None:
    """A ramp over the tokens of lead I and nothing elsewhere; width 5 fits (-2 -1 0 1 2) / 10 to each token."""
    rows = np.zeros((1, 93, 1), np.float32)
    rows[0, :8, 0] = [0, 1, 2, 3, 4, 5, 6, 7]
    deltas = with_deltas(rows, GRID, 500, width=5)[0, :, 1]
    # At token 0 the neighbours are 0 0 | 0 | 1 2 by replication: (1 + 2 * 2) / 10; at token 1: 0 0 | 1 | 2 3.
    np.testing.assert_allclose(deltas[:8], [0.5, 0.8, 1, 1, 1, 1, 0.8, 0.5], atol=1e-6)
    assert (deltas[8:] == 0).all(), "a delta looked across the end of its lead"


def test_deltas_equal_librosa_within_each_lead() -> None:
    from librosa.feature import delta

    rows = np.random.default_rng(0).standard_normal((2, 93, 13)).astype(np.float32)
    with_both = with_deltas(rows, GRID, 500, width=5)
    leads = GRID.lead_of_token(500)
    for lead in range(12):
        own = leads == lead
        for order in (1, 2):
            expected = delta(rows[1, own], width=5, order=order, axis=0, mode="nearest")
            np.testing.assert_allclose(with_both[1, own, 13 * order : 13 * (order + 1)], expected, atol=1e-5)


def test_deltas_stop_at_a_gap_by_hand() -> None:
    """The same ramp with token 4 not recorded: tokens 0..3 and 5..7 of lead I are runs of their own."""
    rows = np.zeros((1, 93, 1), np.float32)
    rows[0, :8, 0] = [0, 1, 2, 3, 0, 5, 6, 7]
    recorded = np.ones((1, 93), bool)
    recorded[0, 4] = False
    deltas = with_deltas(rows, GRID, 500, width=5, recorded=recorded)[0, :, 1]
    # At token 3 the neighbours are 1 2 | 3 | 3 3: (-2 * 1 - 2 + 3 + 2 * 3) / 10; at token 5: 5 5 | 5 | 6 7.
    np.testing.assert_allclose(deltas[:8], [0.5, 0.8, 0.8, 0.5, 0, 0.5, 0.6, 0.5], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(recorded=npst.arrays(bool, (2, 93)), seed=st.integers(0, 100))
def test_deltas_of_recorded_runs_equal_librosa(recorded: np.ndarray, seed: int) -> None:
    from librosa.feature import delta

    rows = np.random.default_rng(seed).standard_normal((2, 93, 2)).astype(np.float32) * recorded[..., None]
    with_both = with_deltas(rows, GRID, 500, width=5, recorded=recorded)
    runs = np.cumsum((np.diff(recorded, prepend=False) != 0) | (np.diff(GRID.lead_of_token(500), prepend=0) != 0), -1)
    for which in range(2):
        for run in np.unique(runs[which][recorded[which]]):
            own = runs[which] == run
            for order in (1, 2):
                expected = delta(rows[which, own], width=5, order=order, axis=0, mode="nearest")
                np.testing.assert_allclose(with_both[which, own, 2 * order : 2 * (order + 1)], expected, atol=1e-5)
    assert (with_both[~recorded] == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate_hz", sorted(CONV_STEMS))
def test_what_was_not_recorded_changes_no_row(name: str, rate_hz: int) -> None:
    config = DescriptorConfig(name=name, sampling_rate_hz=rate_hz)  # type: ignore[arg-type]
    recorded = np.random.default_rng(1).random((3, 93)) < 0.8
    inputs = _inputs(rate_hz=rate_hz)
    other = inputs.copy()
    width = config.grid.stride
    for row, token in np.argwhere(~recorded):
        other[row, token * width : (token + 1) * width] = np.random.default_rng(token).standard_normal(width)
    rows, of_other = config.compute(inputs, recorded), config.compute(other, recorded)
    np.testing.assert_allclose(rows, of_other, rtol=1e-4, atol=1e-3)
    assert (rows[~recorded] == 0).all()
    without_gaps = config.compute(inputs)
    columns = slice(0, 13) if name == "mfcc" else slice(None)
    np.testing.assert_allclose(rows[recorded][:, columns], without_gaps[recorded][:, columns], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(config.compute(inputs, np.ones((3, 93), bool)), without_gaps, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate_hz", sorted(CONV_STEMS))
def test_a_batch_equals_its_rows(name: str, rate_hz: int) -> None:
    config = DescriptorConfig(name=name, sampling_rate_hz=rate_hz)  # type: ignore[arg-type]
    inputs = _inputs(batch=23, rate_hz=rate_hz)
    rows = config.compute(inputs)
    assert rows.shape == (23, 93, config.dim)
    assert rows.dtype == np.float32
    assert len(set(config.column_names)) == config.dim
    for place in (0, 11, 22):
        np.testing.assert_allclose(rows[place], config.compute(inputs[place : place + 1])[0], rtol=1e-4, atol=1e-3)


def test_sizes_of_the_descriptors() -> None:
    assert {name: DescriptorConfig(name=name).dim for name in NAMES} == {"time_frequency": 16, "mfcc": 39, "mixed": 29}  # type: ignore[arg-type]
    assert DescriptorConfig(name="mfcc").column_names[12:15] == ("mfcc_12", "delta_mfcc_0", "delta_mfcc_1")


def test_mixed_is_time_frequency_beside_mfcc() -> None:
    inputs = _inputs()
    mixed = DescriptorConfig(name="mixed").compute(inputs)
    np.testing.assert_array_equal(mixed[..., :16], DescriptorConfig(name="time_frequency").compute(inputs))
    np.testing.assert_array_equal(mixed[..., 16:], DescriptorConfig(name="mfcc").compute(inputs)[..., :13])


def test_a_descriptor_sees_only_its_own_window() -> None:
    inputs = _inputs(batch=1)
    changed = inputs.copy()
    changed[0, 64 * 10 : 64 * 11] += 0.1 * np.sin(np.arange(64))
    before, after = time_frequency(inputs, GRID)[0], time_frequency(changed, GRID)[0]
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [10]


@pytest.mark.parametrize("level", [0.0, -1.0, 0.3])
def test_constant_windows_have_no_shape(level: float) -> None:
    inputs = np.full((1, 6000), level, np.float32)
    row = dict(zip(TIME_FREQUENCY_COLUMNS, time_frequency(inputs, GRID)[0, 5], strict=True))
    expected = {"mean": level, "rms": abs(level), "power": level**2, "crest_factor": float(level != 0)}
    zeros = dict.fromkeys(("var", "std", "p2p", "skewness", "kurtosis"), 0.0)
    for name, value in (expected | zeros).items():
        assert row[name] == pytest.approx(value, abs=1e-6), name
    for name in NAMES:
        assert np.isfinite(DescriptorConfig(name=name).compute(inputs)).all()  # type: ignore[arg-type]


WINDOW = npst.arrays(np.float32, 82, elements=st.floats(-1.5, 1.5, width=32))


@settings(max_examples=150, deadline=None)
@given(window=WINDOW)
def test_rows_are_finite_whatever_the_window(window: np.ndarray) -> None:
    assert np.isfinite(time_frequency(window[None], GRID)).all()
    assert np.isfinite(mfcc(window[None], GRID, 100)).all()


@settings(max_examples=50, deadline=None)
@given(window=WINDOW, gain=st.sampled_from([0.25, 0.5, 2.0]))
def test_shape_statistics_do_not_depend_on_gain(window: np.ndarray, gain: float) -> None:
    before, after = (time_frequency(w[None], GRID)[0, 0] for w in (window, window * np.float32(gain)))
    # Powers of two scale exactly, unless the smallest values lose digits.
    if np.ptp(window[:64]) > 1e-3:
        np.testing.assert_allclose(after[9:12], before[9:12], rtol=1e-3, atol=1e-3)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"wanted model inputs \[batch, sample\]"):
        time_frequency(np.zeros((2, 12, 500), np.float32), GRID)
    with pytest.raises(InputError, match=r"wanted a token mask of shape \(2, 93\), got \(2, 92\)"):
        DescriptorConfig(name="mfcc").compute(np.zeros((2, 6000), np.float32), np.ones((2, 92), bool))
    with pytest.raises(InputError, match="wanted 93 tokens"):
        with_deltas(np.zeros((1, 90, 13), np.float32), GRID, 500, width=5)


def test_an_empty_batch_has_no_rows() -> None:
    for name in NAMES:
        config = DescriptorConfig(name=name)  # type: ignore[arg-type]
        assert config.compute(np.zeros((0, 6000), np.float32)).shape == (0, 93, config.dim)


def test_config_survives_json_and_refuses_unknown_settings() -> None:
    config = DescriptorConfig(name="mixed", sampling_rate_hz=500, delta_width=7)
    assert DescriptorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="liftering"):
        DescriptorConfig.from_dict({"liftering": 22})


@pytest.mark.parametrize(
    "settings_",
    [
        {"name": "wavelet"},
        {"sampling_rate_hz": 250},
        {"low_hz": 60.0},
        {"sampling_rate_hz": 50, "num_mfcc": 20},
        {"delta_width": 4},
    ],
)
def test_impossible_settings_are_refused(settings_: dict) -> None:
    with pytest.raises(ConfigError):
        DescriptorConfig(**settings_)
