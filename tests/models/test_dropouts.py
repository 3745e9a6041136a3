"""Dropouts reach the layers they are named after, and the configuration that is saved with the model."""

import pytest
import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.models.dropouts import ClassifierDropoutConfig, DropoutConfig, read_dropouts, set_dropouts

SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 2}
CONV = {"conv_dim": [8] * 5, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


def classifier() -> HubertECGClassifier:
    torch.manual_seed(0)
    encoder = HubertECG(model_config("small", vocab_sizes=(5,), **SHAPE, **CONV))
    return HubertECGClassifier.from_encoder(encoder, label_names=("A", "B"))


def test_each_kind_is_found_where_it_drops() -> None:
    model = classifier()
    assert read_dropouts(model) == {
        "feature_projection": 0.0,
        "hidden": 0.1,
        "attention": 0.1,
        "activation": 0.1,
        "classifier": 0.1,
    }
    wanted = {"hidden": 0.2, "attention": 0.3, "activation": 0.4, "feature_projection": 0.5, "classifier": 0.6}
    ClassifierDropoutConfig(**wanted, layerdrop=0.7).configure(model)
    encoder = model.hubert_ecg.encoder
    for layer in encoder.layers:
        assert (layer.dropout.p, layer.feed_forward.output_dropout.p) == (0.2, 0.2)
        assert (layer.attention.dropout, layer.feed_forward.intermediate_dropout.p) == (0.3, 0.4)
    assert (encoder.dropout.p, model.hubert_ecg.feature_projection.dropout.p, model.dropout.p) == (0.2, 0.5, 0.6)
    saved = model.config.to_dict()
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout")
    assert [saved[name] for name in names] == [0.2, 0.3, 0.4, 0.5, 0.6]
    # A model made from that configuration drops the same, and no dropout of a module has been overlooked.
    again = HubertECGClassifier(model.config)
    assert read_dropouts(again) == wanted
    shares = {round(m.p, 2) for m in again.modules() if isinstance(m, torch.nn.Dropout)}
    assert shares == {0.2, 0.4, 0.5, 0.6}


def test_what_is_not_given_stays() -> None:
    model = classifier()
    DropoutConfig(attention=0.25).configure(model)
    assert read_dropouts(model) | {"attention": 0.1} == read_dropouts(classifier())
    assert model.config.layerdrop == 0.1


def test_what_is_set_for_a_time_is_not_in_the_configuration() -> None:
    model = classifier()
    set_dropouts(model, {"hidden": 0.3, "attention": 0.3})
    assert model.hubert_ecg.encoder.layers[1].dropout.p == model.hubert_ecg.encoder.layers[1].attention.dropout == 0.3
    assert (model.config.hidden_dropout, model.config.attention_dropout) == (0.1, 0.1)


@torch.no_grad()
def test_layerdrop_leaves_layers_out() -> None:
    model = classifier().hubert_ecg
    nothing = {"hidden": 0.0, "attention": 0.0, "activation": 0.0}
    DropoutConfig(layerdrop=0.999999, **nothing).configure(model)
    inputs = torch.randn(1, 6000, generator=torch.Generator().manual_seed(0))
    without = model.train().encode(inputs, output_hidden_states=True)
    torch.testing.assert_close(
        without.last_hidden_state, model.eval().encode(inputs, None, None, True).hidden_states[0]
    )
    DropoutConfig(layerdrop=0.0).configure(model)
    whole = model.train().encode(inputs).last_hidden_state
    torch.testing.assert_close(whole, model.eval().encode(inputs).last_hidden_state)
    assert not torch.allclose(whole, without.last_hidden_state, atol=1e-2)


@pytest.mark.parametrize("wrong", [{"hidden": 1.0}, {"classifier": -0.1}, {"layerdrop": 1.5}])
def test_shares_that_are_none_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=rf"--dropouts.{next(iter(wrong))}: wanted a share in \[0, 1\)"):
        ClassifierDropoutConfig(**wrong)
