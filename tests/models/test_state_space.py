"""The state-space encoder: its convolution by hand, what it may see, and its place in a classifier."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECGClassifier, model_config
from hubert_ecg.models.adapt import parameter_groups
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.models.state_space import LongKernel, StateSpaceEncoder, long_convolution
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint

SMALL = {"hidden_size": 16, "conv_dim": [8, 8, 16], "num_hidden_layers": 2}


def encoder(rate: int = 100) -> StateSpaceEncoder:
    torch.manual_seed(0)
    return StateSpaceEncoder(model_config("state_space", rate, **SMALL)).eval()


def classifier() -> HubertECGClassifier:
    return HubertECGClassifier.from_encoder(encoder(), label_names=("NORM", "AFIB")).eval()


def ecgs(samples: int = 500) -> torch.Tensor:
    return 0.1 * torch.randn(2, 12, samples, generator=torch.Generator().manual_seed(1))


def test_long_convolution_by_hand() -> None:
    """One channel, three steps; lags from -2 to 2 weigh 10, 20, 1, 2, 3."""
    x = torch.tensor([[[1.0], [0.0], [4.0]]])
    kernel = torch.tensor([[10.0, 20.0, 1.0, 2.0, 3.0]])
    wanted = [1 + 4 * 10, 2 + 4 * 20, 3 + 4 * 1]
    assert long_convolution(x, kernel)[0, :, 0].tolist() == wanted


@torch.no_grad()
def test_kernel_is_the_response_of_its_states() -> None:
    torch.manual_seed(0)
    kernel = LongKernel(3, 2)
    step = kernel.log_step.exp()
    pole = torch.complex(-kernel.log_decay.exp(), kernel.frequency) * step
    weight = torch.complex(kernel.even, kernel.odd) * step
    at = [(weight * torch.exp(pole * lag)).real.sum(dim=-1) for lag in range(4)]
    found = kernel(4)
    torch.testing.assert_close(found[:, 3:], torch.stack([forth for _, forth in at], dim=1))
    torch.testing.assert_close(found[:, :3], torch.stack([back for back, _ in at[:0:-1]], dim=1))


@pytest.mark.parametrize(("rate", "samples"), [(50, 250), (100, 500), (500, 2500)])
def test_a_step_lasts_40_ms_at_every_rate(rate: int, samples: int) -> None:
    assert encoder(rate).encode(ecgs(samples)).last_hidden_state.shape == (2, 125, 16)


@torch.no_grad()
def test_hidden_states_are_those_of_every_layer() -> None:
    found = encoder().encode(ecgs().flatten(1), output_hidden_states=True)
    assert len(found.hidden_states) == 3
    assert torch.equal(encoder().encode(ecgs()).last_hidden_state, found.last_hidden_state)


@torch.no_grad()
def test_what_does_not_count_changes_nothing() -> None:
    """Neither a lead that is missing nor the end of a short recording."""
    mask = torch.ones(2, 12, 500, dtype=torch.bool)
    mask[:, 3] = False
    mask[:, :, 300:] = False
    model, leads = classifier(), ecgs()
    changed = torch.where(mask, leads, 7.0)
    torch.testing.assert_close(model(leads, mask).logits, model(changed, mask).logits)
    assert model.hubert_ecg.token_mask(mask, 125).sum(dim=1).tolist() == [75, 75]
    assert not torch.allclose(model(leads).logits, model(leads, mask).logits)


def test_masked_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_time_indices"):
        encoder().encode(ecgs(), mask_time_indices=torch.ones(2, 125, dtype=torch.bool))


def test_voltage_reaches_the_scores() -> None:
    """Twice the voltage is another heart: nothing in front of the layers may scale it away."""
    with torch.no_grad():
        assert (classifier()(ecgs()).logits - classifier()(2 * ecgs()).logits).abs().max() > 0.01


def test_a_checkpoint_holds_it(tmp_path: Path) -> None:
    model = classifier()
    info = CheckpointInfo(
        kind="classifier",
        task="multi_label",
        label_names=("NORM", "AFIB"),
        preprocessing={"contract": "ours", "range_mv": 5.0},
    )
    save_checkpoint(tmp_path, model, info)
    again, found = load_checkpoint(tmp_path, expect="classifier")
    assert found.preprocessing["range_mv"] == 5.0
    assert again.config.encoder == "state_space"
    with torch.no_grad():
        assert torch.equal(again(ecgs()).logits, model(ecgs()).logits)


def test_stem_and_layers_freeze() -> None:
    model = classifier()
    model.set_trainable(conv_stem=False, last_blocks=1)
    trains = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert {name.split(".")[3] for name in trains if name.startswith("hubert_ecg.")} == {"1"}


def test_dynamics_do_not_decay() -> None:
    model = classifier()
    names = {id(weights): name for name, weights in model.named_parameters()}
    decaying = [
        names[id(weights)]
        for group in parameter_groups(model, weight_decay=0.1)
        if group["weight_decay"]
        for weights in group["params"]
    ]
    assert any(name.endswith("mix.weight") for name in decaying)
    assert not any(".kernel." in name for name in decaying)


def test_formula_counts_what_torch_counts() -> None:
    model = encoder()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode(ecgs()[:1])
    assert forward_flops(model.config, 6000) == counter.get_total_flops()


def test_rates_without_a_stem_are_refused() -> None:
    with pytest.raises(ConfigError, match="250"):
        model_config("state_space", 250)
