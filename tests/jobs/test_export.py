"""jobs.export: the graph against torch for any batch, and what lies beside it."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from hubert_ecg.errors import CheckpointError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.models.onnx import _check, _Graph
from hubert_ecg.pipeline.export import ExportConfig, export
from hubert_ecg.storage.checkpoint import CheckpointInfo, save_checkpoint

LABELS = ("NORM", "AFIB", "CLBBB")


def model() -> HubertECG:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    return HubertECG(model_config("tiny", vocab_sizes=(5,), **shape)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[HubertECGClassifier, Path]:
    folder = tmp_path_factory.mktemp("export")
    classifier = HubertECGClassifier.from_encoder(model(), label_names=LABELS).eval()
    info = CheckpointInfo(
        kind="classifier",
        task="multi_label",
        label_names=LABELS,
        thresholds=(0.5, 0.25, 0.125),
        preprocessing={"contract": "ours"},
    )
    save_checkpoint(folder / "M", classifier, info)
    export(ExportConfig(checkpoint=str(folder / "M"), output=str(folder / "X")))
    return classifier, folder / "X"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_graph_computes_what_torch_computes(exported: tuple[HubertECGClassifier, Path], batch: int) -> None:
    classifier, folder = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    ecgs = torch.randn(batch, 6000, generator=torch.Generator().manual_seed(batch))
    logits, probabilities = session.run(["logits", "probabilities"], {"ecg": ecgs.numpy()})
    with torch.no_grad():
        expected = classifier(ecgs).logits
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(probabilities), expected.sigmoid(), atol=1e-5, rtol=0)


def test_what_is_needed_to_use_it_lies_beside_it(exported: tuple[HubertECGClassifier, Path]) -> None:
    _, folder = exported
    description = json.loads((folder / "model.json").read_text())
    assert description["label_names"] == list(LABELS)
    assert description["thresholds"] == [0.5, 0.25, 0.125]
    assert description["preprocessing"] == {"contract": "ours"}
    assert description["input"] == {"name": "ecg", "shape": ["batch", 6000], "dtype": "float32"}
    assert (folder / "README.md").exists()
    assert (folder / "manifest.json").exists()


def test_a_graph_that_differs_from_torch_is_refused(exported: tuple[HubertECGClassifier, Path]) -> None:
    classifier, folder = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    other = HubertECGClassifier.from_encoder(model(), label_names=LABELS)
    nn.init.constant_(other.classifier.bias, 1.0)
    with pytest.raises(CheckpointError, match=r"within 0\.0001 of torch's"):
        _check(_Graph(other.eval()), session, 6000)
    _check(_Graph(classifier), session, 6000)
