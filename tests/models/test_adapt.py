"""Low-rank adaptation and learning rates by depth."""

import pytest
import torch

from hubert_ecg.errors import CheckpointError, ConfigError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.models.adapt import (
    LoraConfig,
    add_lora,
    load_trained_weights,
    merge_lora,
    parameter_groups,
    trained_weights,
)


def classifier(seed: int = 0) -> HubertECGClassifier:
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 3}
    encoder = HubertECG(model_config("tiny", **shape))
    return HubertECGClassifier.from_encoder(encoder, label_names=("A", "B")).eval()


def ecgs() -> torch.Tensor:
    return torch.randn(2, 12, 500, generator=torch.Generator().manual_seed(1))


def trained(model: HubertECGClassifier) -> HubertECGClassifier:
    model.train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        (model(ecgs()).logits - torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).square().sum().backward()
        optimiser.step()
    return model.eval()


def test_lora_begins_as_the_model_trains_little_of_it_and_merges_into_an_ordinary_one() -> None:
    model = classifier()
    before = model(ecgs()).logits.detach()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not name.startswith("classifier")}
    names = set(model.state_dict())
    add_lora(model, LoraConfig(rank=2, targets=("q_proj", "v_proj", "output_dense")))
    torch.testing.assert_close(model(ecgs()).logits.detach(), before)
    training = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in training if "lora_" not in name} == {"classifier.weight", "classifier.bias"}
    assert len(training) == 2 + 3 * 3 * 2
    # Rank 2 sums beside q (32 x 32), v (32 x 32) and output_dense (48 -> 32), in each of three layers.
    count = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert count == 3 * 2 * (2 * (32 + 32) + (48 + 32))
    after = trained(model)(ecgs()).logits.detach()
    assert not torch.allclose(after, before, atol=1e-3)
    merged = merge_lora(model).eval()
    assert set(merged.state_dict()) == names
    torch.testing.assert_close(merged(ecgs()).logits.detach(), after, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(ecgs()).logits.detach(), after)
    changed = {name for name, p in frozen.items() if not torch.equal(merged.get_parameter(name), p)}
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "v_proj", "output_dense"}
    assert len(changed) == 9


def test_lora_goes_on_from_its_trained_weights() -> None:
    model = classifier()
    add_lora(model, LoraConfig(rank=2))
    weights = trained_weights(trained(model))
    again = classifier()
    add_lora(again, LoraConfig(rank=2))
    load_trained_weights(again, weights)
    assert torch.equal(again(ecgs()).logits, model(ecgs()).logits)
    other = classifier()
    add_lora(other, LoraConfig(rank=3))
    with pytest.raises(CheckpointError, match="lora_A"):
        load_trained_weights(other, weights)


@pytest.mark.parametrize(
    "settings", [{"rank": -1}, {"rank": 1, "alpha": 0}, {"dropout": 1.0}, {"targets": ()}, {"targets": ("k",)}]
)
def test_impossible_loras(settings: dict) -> None:
    with pytest.raises(ConfigError, match="--lora"):
        LoraConfig(**settings)


def test_rates_fall_with_depth() -> None:
    model = classifier()
    model.set_trainable(conv_stem=False)
    groups = parameter_groups(model, weight_decay=0.1, layer_decay=0.5)
    of = {id(p): group for group in groups for p in group["params"]}
    scales = {name: of[id(p)]["lr_scale"] for name, p in model.named_parameters() if id(p) in of}
    assert {scales["classifier.weight"], scales["hubert_ecg.encoder.layers.2.attention.q_proj.bias"]} == {1.0}
    assert scales["hubert_ecg.encoder.layers.1.final_layer_norm.weight"] == 0.5
    assert scales["hubert_ecg.encoder.layers.0.feed_forward.output_dense.weight"] == 0.25
    before = ("feature_projection.projection.weight", "encoder.pos_conv_embed.conv.bias", "masked_spec_embed")
    assert {scales[f"hubert_ecg.{name}"] for name in before} == {0.125}
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}
    assert len(of) == sum(len(group["params"]) for group in groups)
    assert {id(p) for p in model.parameters() if p.requires_grad} == set(of)


def test_without_decay_by_depth_there_are_two_groups_wrapped_or_not() -> None:
    model = classifier()
    groups = parameter_groups(torch.nn.Sequential(model), weight_decay=0.1)
    assert [(group["weight_decay"], group["lr_scale"]) for group in groups] == [(0.1, 1.0), (0.0, 1.0)]
    wrapped = parameter_groups(torch.nn.Sequential(model), weight_decay=0.1, layer_decay=0.5)
    assert len(wrapped) == 8
    with pytest.raises(ConfigError, match="layer_decay"):
        parameter_groups(model, weight_decay=0.0, layer_decay=0.0)
