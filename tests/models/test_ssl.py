"""The pre-training model: the reference's numbers, hidden states, masks, padding, codebooks, Hugging Face files."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECG, HubertECGConfig, HubertECGEncoder, model_config
from hubert_ecg.models.ssl import flatten_leads

TOLERANCE = {"atol": 1e-5, "rtol": 0}


def tiny(**overrides: object) -> HubertECG:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    return HubertECG(model_config("tiny", vocab_sizes=(5, 3), **(shape | overrides))).eval()


def ecgs(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 12, 500, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def reference(shared_dir: Path) -> dict[str, torch.Tensor]:
    """In float64, and compared with models in float64: float32 takes most of the tolerance, more on some processors."""
    with np.load(shared_dir / "reference" / "model.npz") as arrays:
        loaded = {name: torch.from_numpy(arrays[name]) for name in arrays}
    return {name: array.double() if array.is_floating_point() else array for name, array in loaded.items()}


@pytest.fixture
def reference_model(shared_dir: Path) -> HubertECG:
    folder = shared_dir / "reference" / "ssl_hf"
    model = HubertECG(HubertECGConfig(**json.loads((folder / "config.json").read_text())))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


@torch.no_grad()
def test_equals_the_original_model(reference_model: HubertECG, reference: dict[str, torch.Tensor]) -> None:
    single = copy.deepcopy(reference_model)
    reference_model.double()
    encoded = reference_model.encode(reference["input"], output_hidden_states=True)
    torch.testing.assert_close(encoded.last_hidden_state, reference["last_hidden_state"], **TOLERANCE)
    assert len(encoded.hidden_states) == 4
    for index, hidden in enumerate(encoded.hidden_states):
        torch.testing.assert_close(hidden, reference[f"hidden_{index}"], **TOLERANCE)
    logits = reference_model.logits(encoded.last_hidden_state)
    assert len(logits) == 2
    for index, scores in enumerate(logits):
        torch.testing.assert_close(scores, reference[f"logits_{index}"], **TOLERANCE)
    masked = reference_model.encode(reference["input"], mask_time_indices=reference["mask"]).last_hidden_state
    torch.testing.assert_close(masked, reference["masked_last_hidden_state"], **TOLERANCE)
    # float32 rounds by less than the tolerance: scores are cosines over a temperature of 0.1.
    rounded = single.encode(reference["input"].float()).last_hidden_state
    torch.testing.assert_close(rounded.double(), encoded.last_hidden_state, **TOLERANCE)
    for scores, exact in zip(single.logits(rounded), logits, strict=True):
        torch.testing.assert_close(scores.double() * 0.1, exact * 0.1, **TOLERANCE)


@torch.no_grad()
def test_leads_may_come_as_an_axis() -> None:
    model, inputs = tiny(), ecgs()
    assert torch.equal(flatten_leads(inputs)[0, 500:1000], inputs[0, 1])
    ones = torch.ones_like(inputs)
    by_lead = model.encode(inputs, attention_mask=ones).last_hidden_state
    torch.testing.assert_close(by_lead, model.encode(inputs.flatten(1)).last_hidden_state)


@torch.no_grad()
def test_hidden_states_are_outputs_of_the_layers() -> None:
    model = tiny()
    seen = []
    handles = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out)) for layer in model.encoder.layers]
    encoded = model.encode(ecgs(), output_hidden_states=True)
    for handle in handles:
        handle.remove()
    assert len(seen) == 2
    for index, output in enumerate(seen):
        assert torch.equal(encoded.hidden_states[index + 1], output)


def test_training_masks_only_the_tokens_it_is_told_to() -> None:
    model = tiny(mask_time_prob=0.9).train()
    inputs = ecgs()
    first, second = (model.encode(inputs).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)
    mask = torch.zeros(2, 93, dtype=torch.bool)
    mask[0, 10] = True
    masked = model.encode(inputs, mask_time_indices=mask).last_hidden_state
    assert torch.equal(masked[1], first[1])
    assert not torch.allclose(masked[0], first[0])
    masked.sum().backward()
    assert model.masked_spec_embed.grad.abs().sum() > 0


@torch.no_grad()
def test_a_masked_token_hides_its_features() -> None:
    model = tiny()
    mask = torch.zeros(1, 93, dtype=torch.bool)
    mask[0, 20:22] = True
    features = torch.randn(1, 93, 32, generator=torch.Generator().manual_seed(0))
    masked = model._mask_hidden_states(features, mask_time_indices=mask)
    assert torch.equal(masked[0, 20], model.masked_spec_embed)
    assert torch.equal(masked[0, 21], model.masked_spec_embed)
    assert torch.equal(masked[~mask], features[~mask])


def test_majority_rule_keeps_tokens_where_their_samples_are() -> None:
    model = tiny()
    mask = torch.zeros(1, 12, 500)
    mask[:, :, :300] = 1  # Every lead recorded for 3 s and padded to 5 s.
    tokens = model.token_mask(mask, 93)[0]
    grid = model.config.token_grid
    flat = mask.flatten()
    expected = torch.tensor([bool(flat[slice(*grid.field(token))].mean() >= 0.5) for token in range(93)])
    assert torch.equal(tokens, expected)
    assert 0.5 < tokens.double().mean() < 0.7
    assert model.token_mask(torch.ones(1, 6000), 93).all()


def test_prefix_rule_counts_samples_as_the_published_models_do() -> None:
    model = tiny(token_mask_rule="prefix")
    mask = torch.zeros(1, 12, 500, dtype=torch.long)
    mask[:, :, :300] = 1
    tokens = model.token_mask(mask, 93)[0]
    wanted = model.config.token_grid.num_tokens(3600)
    assert tokens.tolist() == [True] * wanted + [False] * (93 - wanted)


@torch.no_grad()
def test_padding_does_not_reach_other_tokens_through_attention() -> None:
    model, inputs = tiny(feat_extract_norm="layer"), ecgs(1).flatten(1)
    _, real = model.config.token_grid.field(45)
    mask = torch.ones(1, 6000)
    mask[:, real:] = 0
    other = inputs.clone()
    other[:, real:] = 0.3
    assert model.token_mask(mask, 93)[0].sum() == 46
    padded, changed = (model.encode(x, attention_mask=mask).last_hidden_state[:, :46] for x in (inputs, other))
    torch.testing.assert_close(padded, changed)
    assert not torch.allclose(model.encode(other).last_hidden_state[:, :46], changed)


@torch.no_grad()
@pytest.mark.parametrize("rule", ["prefix", "majority"])
def test_both_forms_of_attention_agree_on_padded_input(rule: str) -> None:
    model = tiny(token_mask_rule=rule)
    assert model.config._attn_implementation == "sdpa"
    mask = torch.ones(2, 12, 500)
    mask[1, :, 350:] = 0
    fused = model.encode(ecgs(), attention_mask=mask).last_hidden_state
    model.set_attn_implementation("eager")
    plain = model.encode(ecgs(), attention_mask=mask).last_hidden_state
    counting = model.token_mask(mask, 93)
    assert not counting.all()
    torch.testing.assert_close(fused[counting], plain[counting])


def test_new_codebooks_keep_the_encoder_and_the_projections() -> None:
    model = tiny()
    projections = [projection.weight.clone() for projection in model.final_proj]
    encoder = {name: p.clone() for name, p in model.encoder.state_dict().items()}
    model.new_codebooks((7, 4, 6))
    assert model.config.vocab_sizes == [7, 4, 6]
    assert model.config.ensemble_length == 3
    for index, weight in enumerate(projections):
        assert torch.equal(model.final_proj[index].weight, weight)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, encoder[name])
    scores = model.logits(model.encode(ecgs()).last_hidden_state)
    assert [tuple(s.shape) for s in scores] == [(2, 93, 7), (2, 93, 4), (2, 93, 6)]
    model.new_codebooks((7,), keep_projections=False)
    assert not torch.equal(model.final_proj[0].weight, projections[0])
    with pytest.raises(ConfigError, match="codebooks"):
        model.new_codebooks(())


def test_a_few_steps_of_training_learn_a_batch_by_heart() -> None:
    model, inputs = tiny().train(), ecgs(4)
    codes = torch.randint(5, (4, 93), generator=torch.Generator().manual_seed(2))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        scores = model.logits(model.encode(inputs).last_hidden_state)[0]
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), codes.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_gradient_checkpointing_changes_nothing() -> None:
    model = tiny().train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            # The later of its two names.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        model.zero_grad()
        model.encode(ecgs()).last_hidden_state.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@torch.no_grad()
def test_transformers_reads_what_it_writes(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), HubertECGConfig)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, HubertECG)
    for ours, theirs in zip(*(m.logits(m.encode(ecgs()).last_hidden_state) for m in (model, again)), strict=True):
        assert torch.equal(ours, theirs)


def test_an_encoder_without_masking_still_has_its_mask_token() -> None:
    config = model_config("tiny", mask_time_prob=0.0)
    assert "masked_spec_embed" in HubertECGEncoder(config).state_dict()
