"""Checkpoints by hub id: from the hub's local cache, and the errors where there is none."""

from pathlib import Path

import pytest
import torch

from hubert_ecg.errors import CheckpointError
from hubert_ecg.models import HubertECG, model_config
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, load_info, save_checkpoint
from hubert_ecg.storage.hub import is_hub_id

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(folder: Path) -> None:
    """A hub cache as huggingface_hub lays it out, holding `someone/ecg` at one commit, of branch main."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    model = HubertECG(model_config("tiny", vocab_sizes=(5,), **shape))
    snapshot = folder / "models--someone--ecg" / "snapshots" / COMMIT
    save_checkpoint(snapshot, model, CheckpointInfo(kind="ssl", preprocessing={}, licence="CC-BY-NC-4.0"))
    refs = folder / "models--someone--ecg" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)


@pytest.mark.parametrize("place", ["someone/ecg", "someone/ecg@main", f"someone/ecg@{COMMIT}"])
def test_a_hub_id_with_or_without_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cached(tmp_path)
    model, info = load_checkpoint(place, expect="ssl")
    assert isinstance(model, HubertECG)
    assert info.licence == "CC-BY-NC-4.0"
    assert load_info(place).fingerprint == info.fingerprint


@pytest.mark.parametrize("place", ["someone/other", "someone/ecg@v9"])
def test_a_model_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path)
    with pytest.raises(CheckpointError, match=f"{place}: wanted a checkpoint, got no such path here and no such model"):
        load_checkpoint(place)


def test_what_is_a_hub_id_and_what_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_hub_id("Edoardo-BS/hubert-ecg-base")
    assert is_hub_id("a/b@v1.0")
    for path in ("runs/typo", "/a/b", "a/b/c", "model.pt", "./a/b", "s3://bucket/key", "../a"):
        assert not is_hub_id(path)
