"""jobs.convert: every form of checkpoint into ours and back, label names, licence, and the errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError
from hubert_ecg.models import HubertECGClassifier
from hubert_ecg.pipeline.convert import ConvertConfig, convert, read_label_names
from hubert_ecg.storage.checkpoint import check_diagnoses, load_checkpoint, load_info, save_checkpoint
from jobs import convert as job
from jobs.cli import run_job

TOLERANCE = {"atol": 1e-5, "rtol": 0}
NAMES = ("NORM", "AFIB", "AFLT", "CLBBB", "CRBBB", "1AVB")


@pytest.fixture
def reference_dir(shared_dir: Path) -> Path:
    return shared_dir / "reference"


@pytest.fixture
def reference(reference_dir: Path) -> dict[str, torch.Tensor]:
    """In float64, and compared with models in float64: float32 takes most of the tolerance, more on some processors."""
    with np.load(reference_dir / "model.npz") as arrays:
        loaded = {name: torch.from_numpy(arrays[name]) for name in arrays}
    return {name: array.double() if array.is_floating_point() else array for name, array in loaded.items()}


@pytest.fixture
def names_csv(tmp_path: Path) -> str:
    path = tmp_path / "names.csv"
    path.write_text("label\n" + "\n".join(NAMES) + "\n")
    return str(path)


@torch.no_grad()
@pytest.mark.parametrize("name", ["ssl_hf", "hubert_1_iteration_1_tiny.pt"])
def test_a_pretraining_model_to_ours_to_hugging_face_to_ours(
    reference_dir: Path, tmp_path: Path, reference: dict[str, torch.Tensor], name: str
) -> None:
    places = [str(reference_dir / name), *(str(tmp_path / step) for step in ("ours", "hf", "again"))]
    for source, target, form in zip(places, places[1:], ("ours", "huggingface", "ours"), strict=False):
        convert(ConvertConfig(input=source, output=target, to=form))
    assert not (tmp_path / "hf" / "checkpoint.json").exists()
    infos = [load_info(place) for place in places]
    assert {info.fingerprint for info in infos} == {infos[0].fingerprint}
    assert {info.licence for info in infos} == {"CC-BY-NC-4.0"}
    assert all(info.preprocessing == {"contract": "original"} for info in infos)
    for place in places[1:]:
        model = AutoModel.from_pretrained(place).eval().double()
        encoded = model.encode(reference["input"])
        torch.testing.assert_close(encoded.last_hidden_state, reference["last_hidden_state"], **TOLERANCE)
        for index, scores in enumerate(model.logits(encoded.last_hidden_state)):
            torch.testing.assert_close(scores, reference[f"logits_{index}"], **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("head", ["linear", "mlp", "label_embedding"])
def test_a_published_classifier_with_names(
    reference_dir: Path, tmp_path: Path, reference: dict[str, torch.Tensor], names_csv: str, head: str
) -> None:
    source = str(reference_dir / f"hubert_finetuned_{head}.pt")
    ours, hf = str(tmp_path / "ours"), str(tmp_path / "hf")
    manifest = convert(ConvertConfig(input=source, output=ours, labels=names_csv))
    assert manifest.facts["labels"] == list(NAMES)
    convert(ConvertConfig(input=ours, output=hf, to="huggingface"))
    model, info = load_checkpoint(hf)
    assert info.label_names == NAMES
    assert info.licence == "CC-BY-NC-4.0"
    check_diagnoses(info, hf)
    padded = model.double()(reference["input"], attention_mask=reference["attention_mask"]).logits
    torch.testing.assert_close(padded, reference[f"classifier_{head}_padded"], **TOLERANCE)
    plain = AutoModel.from_pretrained(hf).eval().double()
    torch.testing.assert_close(plain(reference["input"]).logits, reference[f"classifier_{head}"], **TOLERANCE)
    card = (tmp_path / "ours" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert "| CLBBB | none |" in card


def test_without_names_diagnoses_are_refused_until_it_gets_some(
    reference_dir: Path, tmp_path: Path, names_csv: str
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    convert(ConvertConfig(input=str(reference_dir / "hubert_finetuned_linear.pt"), output=first))
    info = load_info(first)
    assert info.label_names == tuple(f"label_{index}" for index in range(6))
    assert not info.labels_are_named
    with pytest.raises(CheckpointError, match=r"6 outputs without names.*jobs\.convert"):
        check_diagnoses(info, first)
    convert(ConvertConfig(input=first, output=second, labels=names_csv))
    assert load_info(second).label_names == NAMES
    assert load_info(second).labels_are_named
    other = tmp_path / "other.csv"
    other.write_text("a\nb\nc\nd\ne\nf\n")
    with pytest.raises(CheckpointError, match="label names of its own"):
        convert(ConvertConfig(input=second, output=str(tmp_path / "third"), labels=str(other)))


def test_diagnoses_of_a_pretraining_model_are_refused(reference_dir: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no classification head.*jobs\.finetune"):
        check_diagnoses(load_info(reference_dir / "ssl_hf"), "ssl_hf")


def test_the_licence_goes_on_to_what_is_fine_tuned(reference_dir: Path, tmp_path: Path) -> None:
    model, info = load_checkpoint(reference_dir / "ssl_hf")
    tuned = HubertECGClassifier.from_encoder(model, label_names=("A", "B"))
    own = type(info)(kind="classifier", task="multi_label", label_names=("A", "B"), preprocessing=info.preprocessing)
    assert save_checkpoint(tmp_path, tuned, own).licence == "CC-BY-NC-4.0"
    assert load_info(tmp_path).licence == "CC-BY-NC-4.0"


@pytest.mark.parametrize("count", [5, 7])
def test_another_number_of_names_is_refused_and_leaves_nothing(reference_dir: Path, tmp_path: Path, count: int) -> None:
    path = tmp_path / "names.csv"
    path.write_text("\n".join(f"name {index}" for index in range(count)))
    config = ConvertConfig(
        input=str(reference_dir / "hubert_finetuned_mlp.pt"), output=str(tmp_path / "out"), labels=str(path)
    )
    with pytest.raises(CheckpointError, match=f"wanted 6 different label names.*got {count}"):
        convert(config)
    assert not (tmp_path / "out").exists()


def test_names_files(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes('\ufefflabel\nNORM\n"Block, left"\n\n 1AVB \n'.encode())
    assert read_label_names(str(path)) == ("NORM", "Block, left", "1AVB")
    for bad in ("0,NORM\n1,AFIB\n", "", "label\n"):
        path.write_text(bad)
        with pytest.raises(ConfigError, match="one label name per line"):
            read_label_names(str(path))


def test_the_command_line(
    reference_dir: Path, tmp_path: Path, names_csv: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    arguments = ["convert", "--input", str(reference_dir / "hubert_finetuned_linear.pt"), "--labels", names_csv]

    def run(*more: str) -> object:
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit) as caught:
            run_job("convert", ConvertConfig, convert, job.next_command)
        return caught.value.code

    out = str(tmp_path / "out")
    assert run("--output", out) == 0
    assert "jobs.inspect" in capsys.readouterr().out
    assert run("--output", out) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run("--output", out, "--to", "huggingface") == 2
    assert "to: there" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["facts"]["licence"] == "CC-BY-NC-4.0"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(ArtifactError, match="other files"):
        convert(ConvertConfig(input=arguments[2], output=str(tmp_path / "full")))
