"""The classifier: heads, pooling over padded input, tasks, freezing, and its start from a pre-trained encoder."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config

LABELS = ("NORM", "AFIB", "CLBBB")


def encoder() -> HubertECG:
    torch.manual_seed(0)
    config = model_config(
        "tiny",
        vocab_sizes=(5,),
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=32,
        num_hidden_layers=3,
    )
    return HubertECG(config).eval()


def classifier(**settings: object) -> HubertECGClassifier:
    return HubertECGClassifier.from_encoder(encoder(), label_names=LABELS, **settings).eval()


def ecgs(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 12, 500, generator=torch.Generator().manual_seed(1))


def trainable(model: HubertECGClassifier) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def test_starts_from_a_copy_of_the_encoder() -> None:
    source = encoder()
    model = HubertECGClassifier.from_encoder(source, label_names=LABELS, layerdrop=0.1).eval()
    assert model.label_names == LABELS
    assert model.config.layerdrop == 0.1
    assert source.config.layerdrop == 0.0
    hidden = source.encode(ecgs()).last_hidden_state
    assert torch.equal(model.hubert_ecg.encode(ecgs()).last_hidden_state, hidden)
    expected = model.classifier(hidden.mean(dim=1))
    torch.testing.assert_close(model(ecgs()).logits, expected)
    model.hubert_ecg.encoder.layers[0].attention.k_proj.weight.zero_()
    assert source.encoder.layers[0].attention.k_proj.weight.abs().sum() > 0
    assert not any(name.startswith(("hubert_ecg.final_proj", "hubert_ecg.label_emb")) for name in model.state_dict())


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("linear", {"classifier.weight", "classifier.bias"}),
        ("mlp", {f"classifier.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}),
        ("label_embedding", {"label_embedding.weight"}),
    ],
)
def test_heads_have_the_published_names(head: str, names: set[str]) -> None:
    model = classifier(head=head)
    assert {name for name in model.state_dict() if not name.startswith("hubert_ecg.")} == names
    assert model(ecgs()).logits.shape == (2, 3)
    assert len(model(ecgs(), output_hidden_states=True).hidden_states) == 4


@torch.no_grad()
def test_label_embedding_scores_are_cosines() -> None:
    model = classifier(head="label_embedding")
    model.label_embedding.weight[:] = torch.eye(3, 32) * 7
    pooled = torch.zeros(1, 32)
    pooled[0, 0], pooled[0, 1] = 3.0, 4.0
    torch.testing.assert_close(model.scores(pooled), torch.tensor([[0.6, 0.8, 0.0]]))


@torch.no_grad()
def test_the_mean_is_over_tokens_that_count() -> None:
    model = classifier()
    hidden = torch.arange(93.0)[None, :, None].expand(1, 93, 32).clone()
    mask = torch.zeros(1, 12, 500)
    mask[:, 0] = 1
    counting = model.hubert_ecg.token_mask(mask, 93)[0]
    assert 7 <= counting.sum() <= 8
    expected = torch.arange(93.0)[counting].mean()
    torch.testing.assert_close(model.pool(hidden, mask), expected.expand(1, 32))
    torch.testing.assert_close(model.pool(hidden), torch.full((1, 32), 46.0))
    assert model.pool(hidden, torch.zeros(1, 6000)).abs().sum() == 0


def test_probabilities_follow_the_task() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]])
    torch.testing.assert_close(classifier().probabilities(logits), logits.sigmoid())
    assert float(classifier(task="multi_class").probabilities(logits).sum()) == pytest.approx(1)
    assert torch.equal(classifier(task="regression").probabilities(logits), logits)


def test_freezing_and_thawing() -> None:
    model = classifier()
    everything = {name for name, _ in model.named_parameters()}
    stem = {name for name in everything if ".feature_extractor." in name}
    head = {"classifier.weight", "classifier.bias"}
    model.set_trainable(conv_stem=False)
    assert stem
    assert trainable(model) == everything - stem
    model.set_trainable(conv_stem=True, last_blocks=1)
    assert trainable(model) == head | {name for name in everything if ".encoder.layers.2." in name}
    model.set_trainable(conv_stem=False, last_blocks=0)
    assert trainable(model) == head
    model.set_trainable(conv_stem=True)
    assert trainable(model) == everything
    with pytest.raises(ConfigError, match="last_blocks"):
        model.set_trainable(conv_stem=False, last_blocks=4)


@pytest.mark.parametrize("last_blocks", [None, 1, 0])
def test_frozen_weights_get_no_gradient_and_trained_ones_do(last_blocks: int | None) -> None:
    model = classifier().train()
    model.set_trainable(conv_stem=False, last_blocks=last_blocks)
    model(ecgs()).logits.square().sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    unused = {"hubert_ecg.masked_spec_embed"}  # nothing is masked here
    # A key's bias moves all scores of a query alike, so that its gradient is zero up to rounding.
    key_biases = {name for name in trainable(model) if name.endswith("k_proj.bias")}
    assert moved | unused | key_biases == trainable(model) | unused | key_biases
    assert moved <= trainable(model)
    assert {"classifier.weight", "classifier.bias"} <= moved


def test_labels_must_be_there_and_differ() -> None:
    for names in ((), ("A", "A")):
        with pytest.raises(ConfigError, match="label names"):
            HubertECGClassifier.from_encoder(encoder(), label_names=names)


@torch.no_grad()
def test_transformers_reads_what_it_writes(tmp_path: Path) -> None:
    model = classifier(head="mlp", task="multi_class")
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, HubertECGClassifier)
    assert again.label_names == LABELS
    assert again.config.task == "multi_class"
    assert torch.equal(again(ecgs()).logits, model(ecgs()).logits)
