"""Sizes, stems and the errors of impossible configurations."""

import pytest
import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECGClassifierConfig, HubertECGConfig, HubertECGEncoder, model_config


@pytest.mark.parametrize(("size", "expected"), [("small", 30_209_664), ("base", 92_798_848), ("large", 187_644_736)])
def test_encoders_have_exactly_the_published_numbers_of_parameters(size: str, expected: int) -> None:
    with torch.device("meta"):
        encoder = HubertECGEncoder(model_config(size))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected


@pytest.mark.parametrize(("rate", "samples"), [(50, 250), (100, 500), (500, 2500)])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_five_seconds_make_93_tokens_at_every_rate(size: str, rate: int, samples: int) -> None:
    config = model_config(size, rate)
    assert config.token_grid.num_tokens(12 * samples) == 93
    with torch.device("meta"):
        encoder = HubertECGEncoder(config)
        hidden = encoder.feature_extractor(torch.zeros(1, 12 * samples))
    assert hidden.shape[-1] == 93


def test_tiny_tokens_all_have_an_end_of_the_sequence_within_reach_of_the_positional_convolution() -> None:
    config = model_config("tiny")
    assert 2 * (config.num_conv_pos_embeddings // 2) >= config.token_grid.num_tokens(6000)


def test_heads_and_overrides() -> None:
    config = model_config("base", vocab_sizes=(100, 500), layerdrop=0.05)
    assert config.vocab_sizes == [100, 500]
    assert config.ensemble_length == 2
    assert config.layerdrop == 0.05
    assert config.classifier_proj_size == 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "huge"}, "huge"),
        ({"sampling_rate_hz": 250}, "250"),
        ({"hiden_size": 64}, "hiden_size"),
        ({"hidden_size": 130}, "num_attention_heads"),
        ({"conv_dim": [64, 64]}, "conv_dim"),
        ({"token_mask_rule": "none"}, "token_mask_rule"),
    ],
)
def test_impossible_configurations_are_refused_by_name(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config(**({"size": "tiny"} | change))


def test_configurations_survive_json() -> None:
    config = model_config("tiny", 500, vocab_sizes=(9,), preprocessing={"contract": "ours"})
    again = HubertECGConfig(**config.to_dict())
    assert again.to_dict() == config.to_dict()
    classifier = HubertECGClassifierConfig(num_labels=3, head="mlp", head_hidden_size=8)
    assert classifier.model_type == "hubert_ecg_classification"
    assert HubertECGClassifierConfig(**classifier.to_dict()).to_dict() == classifier.to_dict()
