"""Latents: every layer of a model, masks, precision, every form of checkpoint; and what a model may be applied to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from waveform_tables import Row, noise, noisy_rows, save_model, write_waveforms

from hubert_ecg.ecg.preprocess import PreprocessConfig, attention_mask, model_input
from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError
from hubert_ecg.models import HubertECG
from hubert_ecg.pipeline.crops import Crops, WaveformShard
from hubert_ecg.pipeline.extract import (
    Extractor,
    Feature,
    LatentSource,
    Precision,
    check_contract,
    describe_descriptor,
    describe_latent,
    preprocess_of,
)
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.checkpoint import load_checkpoint

PREPROCESS = PreprocessConfig()
PADDED = PreprocessConfig(min_duration_s=3.0)


def crops_of(waveforms: Manifest) -> Crops:
    shard = WaveformShard.read(waveforms, 0, preprocess_of(waveforms))
    (crops,) = shard.crops([0.0], 64)
    return crops


def latent(
    checkpoint: str | Path, layer: int, precision: Precision = "float32", preprocess: PreprocessConfig = PADDED
) -> Feature:
    return describe_latent(LatentSource.open(str(checkpoint)), preprocess, layer, precision)


@pytest.mark.parametrize("stable_norm", [False, True])
def test_latents_are_the_outputs_of_the_layers(tmp_path: Path, stable_norm: bool) -> None:
    """Each layer by itself, so that those above it are left away, and all by one model; one ECG is padded."""
    model = save_model(tmp_path / "c", do_stable_layer_norm=stable_norm)
    valid = tuple([300] * 12)
    rows = [Row(record_id="a", counts=noise(0)), Row(record_id="b", counts=noise(1, 300), valid_samples=valid)]
    crops = crops_of(write_waveforms(str(tmp_path / "w"), rows, preprocess=PADDED))
    inputs = torch.from_numpy(np.stack([model_input(row.counts, 0.0, PADDED) for row in rows]))
    attention = torch.from_numpy(attention_mask(np.array([[1000] * 12, valid]), [None, None], 0.0, PADDED))
    with torch.inference_mode():
        hidden = model.encode(inputs, attention, output_hidden_states=True).hidden_states
        tokens = model.token_mask(attention, 93).numpy()
    together = Extractor([latent(tmp_path / "c", layer) for layer in (2, 0, 1)])
    assert len(together.models) == 1
    for layer, of_all in zip((2, 0, 1), together.compute(crops), strict=True):
        expected = np.where(tokens[..., None], hidden[layer + 1].numpy(), 0)
        (alone,) = Extractor([latent(tmp_path / "c", layer)]).compute(crops)
        np.testing.assert_allclose(of_all, expected, atol=1e-5)
        np.testing.assert_allclose(alone, expected, atol=1e-5)
    assert 0 < tokens[1].sum() < tokens[0].sum() == 93


def test_bf16_latents_are_near_the_others(tmp_path: Path) -> None:
    save_model(tmp_path / "c")
    crops = crops_of(write_waveforms(str(tmp_path / "w"), noisy_rows(3)))
    exact, rounded = Extractor([latent(tmp_path / "c", 1, precision) for precision in ("float32", "bfloat16")]).compute(
        crops
    )
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() / np.abs(exact).max() < 0.05


@pytest.mark.parametrize("name", ["ssl_hf", "hubert_1_iteration_1_tiny.pt"])
def test_latents_of_published_forms(shared_dir: Path, tmp_path: Path, name: str) -> None:
    """A Hugging Face directory and a legacy file, under the contract of the published weights."""
    place = str(shared_dir / "reference" / name)
    model, info = load_checkpoint(place, expect="ssl")
    preprocess = PreprocessConfig.from_dict(info.preprocessing)
    waveforms = write_waveforms(str(tmp_path / "w"), [Row(record_id="a", counts=noise(0, 5000))], preprocess=preprocess)
    feature = latent(place, 2, preprocess=preprocess)
    crops = crops_of(waveforms)
    with torch.inference_mode():
        hidden = model.encode(torch.from_numpy(crops.inputs), output_hidden_states=True).hidden_states[3].numpy()
    np.testing.assert_allclose(Extractor([feature]).compute(crops)[0], hidden, atol=1e-5)
    assert feature.inputs == {"checkpoint": info.fingerprint}


def test_the_reference_model_gives_the_original_hidden_states(shared_dir: Path) -> None:
    """Ours `layer i` is the original's hidden_states[i + 1]."""
    with np.load(shared_dir / "reference" / "model.npz") as arrays:
        inputs, expected = arrays["input"], [arrays[f"hidden_{layer + 1}"] for layer in range(3)]
    crops = Crops(rows=np.arange(2), starts_s=np.zeros(2, np.float32), inputs=inputs, attention=None, token_mask=None)
    place = shared_dir / "reference" / "ssl_hf"
    preprocess = PreprocessConfig(contract="original")
    features = [latent(place, layer, preprocess=preprocess) for layer in range(3)]
    for got, of_original in zip(Extractor(features).compute(crops), expected, strict=True):
        np.testing.assert_allclose(got, of_original, atol=1e-5)


def test_descriptors_and_latents_may_be_computed_together(tmp_path: Path) -> None:
    save_model(tmp_path / "c")
    crops = crops_of(write_waveforms(str(tmp_path / "w"), noisy_rows(2)))
    features = [
        describe_descriptor("mixed", PREPROCESS),
        latent(tmp_path / "c", 0),
        describe_descriptor("mfcc", PREPROCESS),
    ]
    shapes = [rows.shape for rows in Extractor(features).compute(crops)]
    assert shapes == [(2, 93, feature.dim) for feature in features] == [(2, 93, 29), (2, 93, 32), (2, 93, 39)]


def test_weights_that_change_under_a_run_are_refused(tmp_path: Path) -> None:
    model: HubertECG = save_model(tmp_path / "c")
    feature = latent(tmp_path / "c", 0)
    assert model.config.num_hidden_layers == 3
    save_model(tmp_path / "c", num_hidden_layers=2)
    with pytest.raises(CheckpointError, match="as when this run was started"):
        Extractor([feature])


def test_what_a_model_may_be_applied_to(tmp_path: Path) -> None:
    carried = PREPROCESS.to_dict()
    with pytest.raises(ArtifactError, match=r"sampling_rate_hz 100 \(waveforms: 50\)"):
        check_contract(carried, PreprocessConfig(sampling_rate_hz=50), "C")
    check_contract(carried, PreprocessConfig(min_duration_s=2.0), "C")
    save_model(tmp_path / "c")
    with pytest.raises(ConfigError, match="has 3 layers, got 3"):
        latent(tmp_path / "c", 3)
