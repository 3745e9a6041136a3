"""Padding, missing leads and attention masks of the preprocessing contract, up to what the model makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.ecg.preprocess import (
    PreprocessConfig,
    attention_mask,
    fully_attended,
    model_input,
    prepare_waveform,
    token_mask,
)
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import InputError, RecordingError
from hubert_ecg.models import HubertECG, model_config

SHORT = PreprocessConfig(min_duration_s=2.0, missing_leads="zero")
ORIGINAL = replace(SHORT, contract="original")
FULL = np.full(12, 1000, np.int32)


@pytest.fixture(scope="module")
def ecg() -> Recording:
    return simulate_condition(["NORM"], seed=3)[0]


def cut(recording: Recording, duration_s: float) -> Recording:
    samples = recording.samples[:, : round(duration_s * recording.sampling_rate_hz)]
    return replace(recording, samples=samples, record_id="r")


@pytest.mark.parametrize("config", [SHORT, ORIGINAL])
def test_a_short_recording_is_padded_with_zeros_to_a_crop(ecg: Recording, config: PreprocessConfig) -> None:
    waveform = prepare_waveform(cut(ecg, 3.2), config)
    recorded = round(3.2 * config.table_rate_hz)
    assert waveform.counts.shape == (12, config.table_crop_samples)
    assert waveform.valid_samples.dtype == np.int32
    assert waveform.valid_samples.tolist() == [recorded] * 12
    assert not waveform.counts[:, recorded:].any()
    assert np.isnan(waveform.millivolts(config)[:, recorded:]).all()
    assert np.isfinite(waveform.millivolts(config)[:, :recorded]).all()
    assert [(f.kind, f.lead, f.start_s, f.end_s) for f in waveform.findings] == [("padded", None, 3.2, 5.0)]
    # The recorded part is what it would be if shorter recordings were the rule.
    shorter = prepare_waveform(cut(ecg, 3.2), replace(config, crop_s=2.0))
    np.testing.assert_array_equal(shorter.counts, waveform.counts[:, :recorded])
    mask = attention_mask(waveform.valid_samples, None, 0.0, config).reshape(12, 500)
    assert mask[:, :320].all()
    assert not mask[:, 320:].any()


def test_the_shortest_recording_is_a_setting(ecg: Recording) -> None:
    prepare_waveform(cut(ecg, 2.0), SHORT)
    with pytest.raises(RecordingError, match=r"r: wanted at least 2 s, got 1.998 s"):
        prepare_waveform(cut(ecg, 1.998), SHORT)


def test_what_is_missing_in_all_leads_at_the_end_was_not_recorded(ecg: Recording) -> None:
    samples = ecg.samples.copy()
    samples[:, 2000:] = np.nan
    waveform = prepare_waveform(replace(ecg, samples=samples), SHORT)
    expected = prepare_waveform(cut(ecg, 4.0), SHORT)
    np.testing.assert_array_equal(waveform.counts, expected.counts)
    assert waveform.valid_samples.tolist() == [400] * 12


@pytest.mark.parametrize("config", [SHORT, ORIGINAL])
def test_a_missing_lead_is_zero_and_masked_and_changes_no_other(ecg: Recording, config: PreprocessConfig) -> None:
    names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V4", "V5", "V6")
    eleven = replace(ecg, samples=np.delete(ecg.samples, 8, axis=0), lead_names=names)
    waveform = prepare_waveform(standard_12_lead(eleven, missing="zero"), config)
    complete = prepare_waveform(ecg, config)
    assert not waveform.counts[8].any()
    np.testing.assert_array_equal(np.delete(waveform.counts, 8, axis=0), np.delete(complete.counts, 8, axis=0))
    assert waveform.valid_samples.tolist() == [0 if lead == 8 else complete.counts.shape[1] for lead in range(12)]
    assert np.isnan(waveform.millivolts(config)[8]).all()
    assert np.isfinite(waveform.gain_mv).all()
    assert waveform.findings == ()  # standard_12_lead has said it already
    mask = attention_mask(waveform.valid_samples, None, 2.5, config).reshape(12, 500)
    assert mask.any(axis=1).tolist() == mask.all(axis=1).tolist() == [lead != 8 for lead in range(12)]


def test_a_lead_without_a_single_number_is_a_missing_lead(ecg: Recording) -> None:
    samples = ecg.samples.copy()
    samples[4] = np.nan
    broken = replace(ecg, samples=samples, record_id="r")
    with pytest.raises(RecordingError, match="r: nothing was recorded in aVL") as caught:
        prepare_waveform(broken, PreprocessConfig())
    assert caught.value.reason == "missing leads"
    found = prepare_waveform(broken, SHORT).findings
    assert [(f.kind, f.lead) for f in found] == [("missing lead", "aVL")]


@pytest.mark.parametrize("config", [SHORT, ORIGINAL])
def test_what_lies_in_the_padding_never_reaches_the_model(config: PreprocessConfig) -> None:
    rng = np.random.default_rng(0)
    length = config.table_crop_samples * 2
    counts = rng.integers(-9000, 9000, (3, 12, length)).astype(np.int16)
    valid = rng.integers(0, length, (3, 12)).astype(np.int32)
    starts = np.array([0.0, 1.0, 3.3])
    other = np.where(np.arange(length) < valid[..., None], counts, rng.integers(-9000, 9000, counts.shape))
    zeroed = np.where(np.arange(length) < valid[..., None], counts, 0).astype(np.int16)
    inputs = model_input(counts, starts, config, valid)
    np.testing.assert_array_equal(inputs, model_input(other.astype(np.int16), starts, config, valid))
    np.testing.assert_array_equal(inputs, model_input(zeroed, starts, config))
    assert (inputs != model_input(counts, starts, config)).any()


def test_waveforms_shorter_than_a_crop_are_padded_by_model_input() -> None:
    counts = np.arange(12 * 320, dtype=np.int16).reshape(12, 320)
    flat = model_input(counts, 0.0, SHORT).reshape(12, 500)
    np.testing.assert_array_equal(flat[:, :320] * 16384, counts)
    assert not flat[:, 320:].any()
    with pytest.raises(InputError, match="the waveform covers 0 to 5 s"):
        model_input(counts, 0.5, SHORT)


def test_spans_by_hand() -> None:
    # A crop from 2 s on; one span lies before it, one reaches over its end, and two overlap.
    spans = np.array([[0.2, 0.6], [2.1, 2.9], [2.5, 3.1], [6.99, 9.0]], np.float32)
    mask = attention_mask(FULL, spans, 2.0, PreprocessConfig()).reshape(12, 500)
    expected = np.zeros(500, bool)
    expected[10:110] = expected[499:] = True
    np.testing.assert_array_equal(mask, np.broadcast_to(expected, (12, 500)))


def test_a_crop_without_a_beat_is_attended_to_as_recorded() -> None:
    valid = np.where(np.arange(12) < 6, 1000, 900).astype(np.int32)
    spans = np.array([[0.0, 4.0]], np.float32)
    mask = attention_mask(valid, spans, 5.0, PreprocessConfig())
    np.testing.assert_array_equal(mask, attention_mask(valid, None, 5.0, PreprocessConfig()))
    assert token_mask(mask, PreprocessConfig()).any()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), rate=st.sampled_from([50, 100, 500]), contract=st.sampled_from(["ours", "original"])
)
def test_a_batch_of_masks_equals_single_ones_and_every_sample_by_its_definition(
    seed: int, rate: int, contract: str
) -> None:
    config = PreprocessConfig(contract=contract, sampling_rate_hz=rate)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    table, step = config.table_rate_hz, config.table_rate_hz // rate
    valid = rng.choice([0, 4 * table, 7 * table + 3, 10 * table], (3, 12))
    starts = rng.choice([0.0, 1.3, 5.0], 3)
    # Spans of 3 s on a grid of 1/50 s leave every crop some token in lead I, which lasts throughout.
    valid[:, 0] = 10 * table
    begins = rng.integers(0, 2, 3) + starts + 0.02
    spans = [None if rng.random() < 0.4 else np.array([[b, b + 3.0]], np.float32) for b in begins]
    masks = attention_mask(valid, spans, starts, config)
    assert masks.shape == (3, 12 * config.crop_samples)
    for row in range(3):
        np.testing.assert_array_equal(masks[row], attention_mask(valid[row], spans[row], float(starts[row]), config))
        first = round(starts[row] * table)
        for lead, sample in zip(rng.integers(0, 12, 40), rng.integers(0, config.crop_samples, 40), strict=True):
            recorded = first + (sample + 1) * step <= valid[row, lead]
            time_s = starts[row] + sample / rate
            inside = spans[row] is None or begins[row] - 1e-6 <= time_s < begins[row] + 3 - 1e-6
            assert masks[row].reshape(12, -1)[lead, sample] == (recorded and inside)
    if all(span is None for span in spans):
        assert fully_attended(valid, spans, starts, config) == masks.all()
    if fully_attended(valid, spans, starts, config):
        assert masks.all()


@pytest.mark.parametrize("rate", [50, 100, 500])
def test_token_mask_is_what_the_model_makes_of_it(rate: int) -> None:
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    model = HubertECG(model_config("tiny", rate, vocab_sizes=(3,), **small))
    config = PreprocessConfig(sampling_rate_hz=rate)  # type: ignore[arg-type]
    rng = np.random.default_rng(rate)
    runs = rng.random((20, 12 * config.crop_samples // 25)) < rng.uniform(0.2, 0.9, (20, 1))
    masks = np.concatenate([runs.repeat(25, axis=1), np.ones((1, 12 * config.crop_samples), bool)])
    field = config.token_grid.receptive_field
    masks[0, : field // 2], masks[0, field // 2 : field] = True, False  # exactly half
    ours = token_mask(masks, config)
    theirs = model.token_mask(torch.from_numpy(masks), config.num_tokens)
    assert ours.shape == (21, config.num_tokens)
    np.testing.assert_array_equal(ours, theirs.numpy())
    assert ours[0, 0]
    assert ours[20].all()
    np.testing.assert_array_equal(token_mask(masks[3], config), ours[3])


def test_settings_of_older_versions_and_of_admission() -> None:
    old = {name: value for name, value in PreprocessConfig().to_dict().items() if name != "missing_leads"}
    old.pop("attention_mask")
    assert PreprocessConfig.from_dict(old) == PreprocessConfig()
    assert PreprocessConfig().differences(SHORT) == {}
    beats = PreprocessConfig(attention_mask="beats")
    assert PreprocessConfig().differences(beats) == {"attention_mask": ("padding", "beats")}


def test_beats_are_attended_to_and_without_any_all_that_was_recorded(ecg: Recording) -> None:
    config = PreprocessConfig(attention_mask="beats")
    waveform = prepare_waveform(ecg, config)
    assert waveform.attended_s is not None
    assert waveform.attended_s.dtype == np.float32
    mask = attention_mask(waveform.valid_samples, waveform.attended_s, 2.5, config)
    # P onset to T offset takes about half of a heart cycle at rest.
    assert 0.2 < mask.mean() < 0.9
    assert token_mask(mask, config).any()
    np.testing.assert_array_equal(waveform.counts, prepare_waveform(ecg, PreprocessConfig()).counts)
    noise = replace(ecg, samples=np.random.default_rng(0).normal(0, 1e-3, ecg.samples.shape).astype(np.float32))
    without = prepare_waveform(noise, config)
    assert without.attended_s is None
    assert [finding.kind for finding in without.findings] == ["beats not found"]
