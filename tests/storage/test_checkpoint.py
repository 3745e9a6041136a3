"""Checkpoints: every published form reproduces the original's numbers; round trips; and each way of being broken."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hubert_ecg.errors import CheckpointError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, load_info, save_checkpoint

TOLERANCE = {"atol": 1e-5, "rtol": 0}
LABELS = ("NORM", "AFIB", "CLBBB")
CONTRACT = {"contract": "ours", "low_hz": 0.05}
SSL_FILES = ["ssl_hf", "hubert_1_iteration_1_tiny.pt"]
HEADS = ["linear", "mlp", "label_embedding"]


def ssl_model() -> HubertECG:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    return HubertECG(model_config("tiny", vocab_sizes=(5, 3), **small)).eval()


def classifier(**settings: object) -> HubertECGClassifier:
    return HubertECGClassifier.from_encoder(ssl_model(), label_names=LABELS, **settings).eval()


def ssl_info() -> CheckpointInfo:
    return CheckpointInfo(kind="ssl", preprocessing=CONTRACT, provenance={"inputs": {"labels": "3fa9c1"}})


def classifier_info() -> CheckpointInfo:
    return CheckpointInfo(
        kind="classifier",
        task="multi_label",
        label_names=LABELS,
        thresholds=(0.5, 0.25, 0.125),
        preprocessing=CONTRACT,
        licence="CC-BY-NC-4.0",
    )


def ecgs() -> torch.Tensor:
    return torch.randn(2, 12, 500, generator=torch.Generator().manual_seed(1))


def rewrite_weights(directory: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) drop weights behind the checkpoint's back, as a plain Hugging Face directory."""
    weights = safetensors.torch.load_file(directory / "model.safetensors")
    weights |= {name: tensor for name, tensor in changes.items() if tensor is not None}
    kept = {name: tensor for name, tensor in weights.items() if name not in changes or changes[name] is not None}
    safetensors.torch.save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "checkpoint.json").unlink(missing_ok=True)


@pytest.fixture
def reference(shared_dir: Path) -> dict[str, torch.Tensor]:
    """In float64, and compared with models in float64: float32 takes most of the tolerance, more on some processors."""
    with np.load(shared_dir / "reference" / "model.npz") as arrays:
        loaded = {name: torch.from_numpy(arrays[name]) for name in arrays}
    return {name: array.double() if array.is_floating_point() else array for name, array in loaded.items()}


@torch.no_grad()
@pytest.mark.parametrize("name", SSL_FILES)
def test_published_pretraining_models_give_the_originals_numbers(
    shared_dir: Path, reference: dict[str, torch.Tensor], name: str
) -> None:
    model, info = load_checkpoint(shared_dir / "reference" / name, expect="ssl")
    assert not model.training
    assert model.config.vocab_sizes == [11, 7]
    assert info.kind == "ssl"
    assert info.preprocessing == {"contract": "original"}
    assert info.licence == "CC-BY-NC-4.0"
    model.double()
    encoded = model.encode(reference["input"], output_hidden_states=True)
    torch.testing.assert_close(encoded.last_hidden_state, reference["last_hidden_state"], **TOLERANCE)
    for index in range(4):
        torch.testing.assert_close(encoded.hidden_states[index], reference[f"hidden_{index}"], **TOLERANCE)
    for index, scores in enumerate(model.logits(encoded.last_hidden_state)):
        torch.testing.assert_close(scores, reference[f"logits_{index}"], **TOLERANCE)
    masked = model.encode(reference["input"], mask_time_indices=reference["mask"]).last_hidden_state
    torch.testing.assert_close(masked, reference["masked_last_hidden_state"], **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_published_classifiers_give_the_originals_numbers(
    shared_dir: Path, reference: dict[str, torch.Tensor], head: str
) -> None:
    path = shared_dir / "reference" / f"hubert_finetuned_{head}.pt"
    model, info = load_checkpoint(path, expect="classifier")
    assert model.config.head == head
    assert info.label_names == tuple(f"label_{index}" for index in range(6))
    model.double()
    logits = model(reference["input"]).logits
    torch.testing.assert_close(logits, reference[f"classifier_{head}"], **TOLERANCE)
    padded = model(reference["input"], attention_mask=reference["attention_mask"]).logits
    torch.testing.assert_close(padded, reference[f"classifier_{head}_padded"], **TOLERANCE)
    assert not torch.allclose(padded[1], logits[1], atol=1e-4)


def test_one_model_in_two_forms_has_one_fingerprint(shared_dir: Path) -> None:
    one, other = (load_info(shared_dir / "reference" / name).fingerprint for name in SSL_FILES)
    assert one == other
    assert len(one) == 16


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_a_published_classifier_converts_to_our_form_and_back_to_hugging_face(
    shared_dir: Path, tmp_path: Path, reference: dict[str, torch.Tensor], head: str
) -> None:
    model, info = load_checkpoint(
        shared_dir / "reference" / f"hubert_finetuned_{head}.pt", label_names=["a", "b", "c", "d", "e", "f"]
    )
    saved = save_checkpoint(tmp_path / "ours", model, info)
    assert saved.fingerprint == info.fingerprint
    ours, again = load_checkpoint(tmp_path / "ours")
    assert again == saved
    ours.save_pretrained(tmp_path / "hf")
    back, of_hf = load_checkpoint(tmp_path / "hf")
    assert of_hf.label_names == ("a", "b", "c", "d", "e", "f")
    assert of_hf.preprocessing == {"contract": "original"}
    for loaded in (ours, back):
        logits = loaded.double()(reference["input"]).logits
        torch.testing.assert_close(logits, reference[f"classifier_{head}"], **TOLERANCE)


def test_the_number_of_labels_is_read_off_the_weights(shared_dir: Path, tmp_path: Path) -> None:
    model, info = load_checkpoint(shared_dir / "reference" / "hubert_finetuned_mlp.pt")
    save_checkpoint(tmp_path, model, info)
    (tmp_path / "checkpoint.json").unlink()
    rewrite_weights(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("id2label", "label2id", "head", "head_hidden_size", "task", "preprocessing", "token_mask_rule"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again, found = load_checkpoint(tmp_path, label_names=list("abcdef"))
    assert again.config.num_labels == 6
    assert again.config.head == "mlp"
    assert found.label_names == tuple("abcdef")
    with pytest.raises(CheckpointError, match="wanted 6 different label names.*got 2"):
        load_checkpoint(tmp_path, label_names=["a", "b"])


@torch.no_grad()
def test_pretraining_round_trip(tmp_path: Path) -> None:
    model = ssl_model()
    saved = save_checkpoint(tmp_path, model, ssl_info())
    again, info = load_checkpoint(tmp_path, expect="ssl")
    assert info == saved == load_info(tmp_path)
    assert info.fingerprint
    assert set(info.provenance) == {"inputs", "code"}
    assert replace(info, fingerprint="", provenance=ssl_info().provenance) == ssl_info()
    for ours, theirs in zip(*(m.logits(m.encode(ecgs()).last_hidden_state) for m in (model, again)), strict=True):
        assert torch.equal(ours, theirs)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert save_checkpoint(tmp_path / "copy", again, info).fingerprint == saved.fingerprint


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_classifier_round_trip(tmp_path: Path, head: str) -> None:
    model = classifier(head=head)
    saved = save_checkpoint(tmp_path, model, classifier_info())
    again, info = load_checkpoint(str(tmp_path), expect="classifier")
    assert info == saved == load_info(tmp_path)
    assert info.thresholds == (0.5, 0.25, 0.125)
    assert again.label_names == LABELS
    assert torch.equal(again(ecgs()).logits, model(ecgs()).logits)


def test_a_loaded_model_trains_on(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, classifier(), classifier_info())
    before = (tmp_path / "model.safetensors").read_bytes()
    model, info = load_checkpoint(tmp_path)
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1.0)
    model(ecgs()).logits.square().sum().backward()
    optimiser.step()
    assert save_checkpoint(tmp_path / "next", model, info).fingerprint != info.fingerprint
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_every_weight_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    rewrite_weights(
        tmp_path,
        **{
            "encoder.layer_norm.bias": None,
            "encoder.layers.9.extra": torch.zeros(3),
            "masked_spec_embed": torch.zeros(33),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    message = str(caught.value)
    assert "1 missing: encoder.layer_norm.bias" in message
    assert "1 unexpected: encoder.layers.9.extra" in message
    assert "1 of another shape: masked_spec_embed (wanted [32], got [33])" in message


@pytest.mark.parametrize("name", ["label_embedding.1.weight", "final_proj.0.bias", "final_proj.1.weight"])
def test_a_missing_part_of_a_pretraining_head_is_reported(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    rewrite_weights(tmp_path, **{name: None})
    with pytest.raises(CheckpointError, match=f"1 missing: {name}"):
        load_checkpoint(tmp_path)


def test_a_wholly_missing_pretraining_head_is_reported(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    rewrite_weights(
        tmp_path, **{"final_proj.1.weight": None, "final_proj.1.bias": None, "label_embedding.1.weight": None}
    )
    with pytest.raises(CheckpointError, match="3 missing: final_proj.1.bias, final_proj.1.weight, label_embedding.1"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("head", "name"),
    [("linear", "classifier.weight"), ("linear", "classifier.bias"), ("mlp", "classifier.0.weight")]
    + [("mlp", "classifier.2.weight"), ("label_embedding", "label_embedding.weight")],
)
def test_a_missing_part_of_a_classifier_head_is_reported(tmp_path: Path, head: str, name: str) -> None:
    save_checkpoint(tmp_path, classifier(head=head), classifier_info())
    rewrite_weights(tmp_path, **{name: None})
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        load_checkpoint(tmp_path)


def test_damaged_weights_are_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="fingerprint"):
        load_checkpoint(tmp_path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_checkpoint(tmp_path)


def test_predicting_with_a_pretrained_model_says_what_is_missing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    with pytest.raises(CheckpointError, match=r"no classification head.*jobs\.finetune"):
        load_checkpoint(tmp_path, expect="classifier")


def test_latents_of_a_classifier_are_refused_where_codebook_heads_are_needed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, classifier(), classifier_info())
    with pytest.raises(CheckpointError, match=r"jobs\.pretrain"):
        load_checkpoint(tmp_path, expect="ssl")


@pytest.mark.parametrize("read", [load_checkpoint, load_info])
def test_absent_and_unfinished_checkpoints(tmp_path: Path, read) -> None:
    with pytest.raises(CheckpointError, match="no such directory"):
        read(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="nothing there"):
        read(tmp_path / "nowhere.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="an empty directory"):
        read(tmp_path / "empty")
    for missing in ("config.json", "model.safetensors"):
        save_checkpoint(tmp_path / "half", ssl_model(), ssl_info())
        (tmp_path / "half" / missing).unlink()
        with pytest.raises(CheckpointError, match=f"half a checkpoint, {missing} is missing"):
            read(tmp_path / "half")


@pytest.mark.parametrize("read", [load_checkpoint, load_info])
def test_our_weights_without_their_contract_are_half_a_checkpoint_not_a_published_one(tmp_path: Path, read) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    (tmp_path / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match="half-written"):
        read(tmp_path)


def test_a_hugging_face_copy_of_our_model_keeps_its_contract(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ours", classifier(), classifier_info())
    load_checkpoint(tmp_path / "ours")[0].save_pretrained(tmp_path / "hf")
    _, info = load_checkpoint(tmp_path / "hf")
    assert info.preprocessing == CONTRACT
    assert info.label_names == LABELS
    with pytest.raises(CheckpointError, match="label names of its own"):
        load_checkpoint(tmp_path / "hf", label_names=["x", "y", "z"])


def test_model_and_info_must_belong_together(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="info of a classifier"):
        save_checkpoint(tmp_path, classifier(), ssl_info())
    two = replace(classifier_info(), label_names=("A", "B"), thresholds=None)
    with pytest.raises(CheckpointError, match="wanted 3 different label names"):
        save_checkpoint(tmp_path, classifier(), two)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kind": "other"}, "kind"), ({"task": None}, "task"), ({"thresholds": (0.5,)}, "one threshold")],
)
def test_impossible_infos(change: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        replace(classifier_info(), **change)


def test_damaged_infos(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, ssl_model(), ssl_info())
    path = tmp_path / "checkpoint.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"format_version": 2}))
    with pytest.raises(CheckpointError, match="wanted format version 1, got 2"):
        load_info(tmp_path)
    path.write_text(json.dumps(value | {"colour": "red"}))
    with pytest.raises(CheckpointError, match="colour"):
        load_info(tmp_path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="wanted JSON"):
        load_info(tmp_path)


def test_a_classifier_saved_without_a_mask_token_gets_a_zero_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, classifier(mask_time_prob=0.0), classifier_info())
    rewrite_weights(tmp_path, **{"hubert_ecg.masked_spec_embed": None})
    model, _ = load_checkpoint(tmp_path)
    assert model.hubert_ecg.masked_spec_embed.abs().sum() == 0
