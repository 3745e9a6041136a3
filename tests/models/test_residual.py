"""The residual encoder: the benchmark's network weight by weight, what it may see, and its place in a classifier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.proof.resnet import ResNet
from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECGClassifier, model_config
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.models.onnx import to_onnx
from hubert_ecg.models.residual import ResidualEncoder
from hubert_ecg.predictor.embedding import FINAL, Embedder
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint

SMALL = {"hidden_size": 16, "conv_dim": [8], "block_dim": [8, 12, 16], "num_hidden_layers": 3}
INFO = CheckpointInfo(
    kind="classifier",
    task="multi_label",
    label_names=("NORM", "AFIB"),
    preprocessing={"contract": "ours", "range_mv": 5.0},
)


def encoder(rate: int = 100, **shape: object) -> ResidualEncoder:
    torch.manual_seed(0)
    return ResidualEncoder(model_config("residual", rate, **SMALL | shape))


def classifier() -> HubertECGClassifier:
    """With running statistics that are not those it began with."""
    made = HubertECGClassifier.from_encoder(encoder(), label_names=("NORM", "AFIB"))
    made.train()(ecgs())
    return made.eval()


def ecgs(samples: int = 500) -> torch.Tensor:
    """In units of 5 mV."""
    return 0.1 * torch.randn(2, 12, samples, generator=torch.Generator().manual_seed(1))


def test_it_is_the_network_of_the_benchmark() -> None:
    """The same weights from the same seed, by the same names of blocks, and the same vectors, in training and after."""
    torch.manual_seed(3)
    theirs = ResNet()
    torch.manual_seed(3)
    ours = ResidualEncoder(model_config("residual"))
    for wanted, found in zip(
        theirs.parameters(), (w for n, w in ours.named_parameters() if n != "masked_spec_embed"), strict=True
    ):
        assert torch.equal(wanted, found)
    with torch.no_grad():
        for is_training in (True, False):
            wanted = theirs.train(is_training)(5 * ecgs(250))
            found = ours.train(is_training).encode(ecgs(250)).last_hidden_state
            assert found.shape == (2, 16, 160)
            torch.testing.assert_close(found.mean(dim=1), wanted)


@pytest.mark.parametrize(("rate", "samples"), [(50, 250), (100, 500), (500, 2500)])
def test_a_step_lasts_as_long_at_every_rate(rate: int, samples: int) -> None:
    assert encoder(rate).encode(ecgs(samples)).last_hidden_state.shape == (2, 63, 16)
    with pytest.raises(ConfigError, match="250"):
        model_config("residual", 250)


@torch.no_grad()
def test_what_does_not_count_changes_nothing() -> None:
    """Neither a lead that is missing nor the end of a short recording."""
    mask = torch.ones(2, 12, 500, dtype=torch.bool)
    mask[:, 3] = False
    mask[:, :, 300:] = False
    model, leads = classifier(), ecgs()
    changed = torch.where(mask, leads, 7.0)
    torch.testing.assert_close(model(leads, mask).logits, model(changed, mask).logits)
    # Steps of 8 samples of the last block, of 2 and 4 of those before it.
    for steps, counting in ((63, 38), (250, 150), (125, 75)):
        assert model.hubert_ecg.token_mask(mask, steps).sum(dim=1).tolist() == [counting] * 2
    assert not torch.allclose(model(leads).logits, model(leads, mask).logits)


def test_voltage_reaches_the_scores() -> None:
    """Once it is trained, norms stand by what they have seen."""
    model = classifier().hubert_ecg
    with torch.no_grad():
        once, twice = (model.encode(scale * ecgs()).last_hidden_state for scale in (1, 2))
    assert (once - twice).norm() > 0.1 * once.norm()


def test_masked_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_time_indices"):
        encoder().encode(ecgs(), mask_time_indices=torch.ones(2, 63, dtype=torch.bool))


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"block_dim with num_hidden_layers entries.*\[8, 12, 16\], 2 and 16"):
        encoder(num_hidden_layers=2)


@torch.no_grad()
def test_a_checkpoint_holds_its_weights_and_running_statistics(tmp_path: Path) -> None:
    model = classifier()
    save_checkpoint(tmp_path, model, INFO)
    again, found = load_checkpoint(tmp_path, expect="classifier")
    assert found.preprocessing["range_mv"] == 5.0
    assert again.config.encoder == "residual"
    assert torch.equal(again(ecgs()).logits, model(ecgs()).logits)
    assert "A residual encoder (hidden size 16, 3 layers) with a linear head" in (tmp_path / "README.md").read_text()


@torch.no_grad()
def test_layers_are_embedded_in_their_own_width() -> None:
    model = classifier()
    counts = np.random.default_rng(0).integers(-900, 900, (12, 1000)).astype(np.int16)
    valid = np.array([1000] * 11 + [0])
    found = Embedder(model, INFO).embed([counts], [valid], layers=[0, 1, 2, FINAL])
    for layer, vectors in found.items():
        assert vectors.shape == (1, model.config.layer_size(layer))
        assert np.abs(vectors).max() > 0
    np.testing.assert_array_equal(found[2], found[FINAL])


def test_stem_and_blocks_freeze() -> None:
    model = classifier()
    model.set_trainable(conv_stem=False, last_blocks=1)
    trains = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert {name.split(".")[3] for name in trains if name.startswith("hubert_ecg.")} == {"2"}


@pytest.mark.parametrize("rate", [50, 100, 500])
def test_formula_counts_what_torch_counts(rate: int) -> None:
    model = encoder(rate).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode(ecgs(5 * rate)[:1])
    assert forward_flops(model.config, 60 * rate) == counter.get_total_flops()


def test_it_is_exported() -> None:
    """Checked by the export itself, for batches of several sizes."""
    assert len(to_onnx(classifier(), 12 * 250)) > 10_000
