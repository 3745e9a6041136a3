"""On a GPU everything is as on a CPU: models, trainings, what they leave behind, features, predictions, the service."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.models import model_config
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.config import Size
from hubert_ecg.models.encoders import new_encoder
from hubert_ecg.pipeline.curves import step_rows
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.checkpoint import load_checkpoint
from hubert_ecg.training.compute import ComputeConfig
from tests.pipeline import waveform_tables
from tests.pipeline.training_jobs import distance
from tests.predictor.classifiers import classifier, info_of, waveforms
from tests.serve.service import ecg, npy, running, save_classifier
from tests.training.padded import write_codes, write_waveforms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="wanted a CUDA device, torch finds none"),
]
CLOSE, CLOSE_IN_BF16 = 5e-3, 5e-2
"""Relative L2 distance; cuDNN's convolutions round to ten bits of mantissa unless they are told not to."""
GPU = WorkersConfig(use_gpu=True, threads_each=1)


def hidden(model: torch.nn.Module, device: str, *, bf16: bool = False) -> torch.Tensor:
    ecgs = torch.randn(4, 6000, generator=torch.Generator().manual_seed(1)).to(device)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        return model.to(device).encode(ecgs).last_hidden_state.float().cpu()  # type: ignore[operator]


@pytest.mark.parametrize("size", ["tiny", "small", "state_space", "residual"])
def test_an_encoder_says_the_same(size: Size) -> None:
    torch.manual_seed(0)
    model = new_encoder(model_config(size, vocab_sizes=(5,))).eval()
    on_cpu = hidden(model, "cpu")
    norm = on_cpu.norm()
    assert (hidden(model, "cuda") - on_cpu).norm() < CLOSE * norm
    assert (hidden(model, "cuda", bf16=True) - on_cpu).norm() < CLOSE_IN_BF16 * norm


@pytest.mark.parametrize("size", ["tiny", "state_space", "residual"])
def test_gradients_are_the_same(size: Size) -> None:
    torch.manual_seed(0)
    config = model_config(size, vocab_sizes=(5,), layerdrop=0.0)
    model = HubertECGClassifier.from_encoder(new_encoder(config), label_names=("NORM", "AFIB")).eval()
    ecgs = torch.randn(4, 6000, generator=torch.Generator().manual_seed(1))
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        model(ecgs.to(device)).logits.square().sum().backward()
        named = model.named_parameters()
        found.append({name: weights.grad.cpu().clone() for name, weights in named if weights.grad is not None})
    assert distance(found[1], found[0]) < CLOSE


def test_predictions_are_the_same() -> None:
    ecgs = waveforms(5)
    there, here = (Predictor(classifier(), info_of(), device=device).apply(ecgs) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=2e-3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waveforms and labels of 15 recordings."""
    folder = tmp_path_factory.mktemp("inputs")
    write_codes(folder / "l", write_waveforms(folder / "w", splits=("train", "val", "test")))
    return folder


def pretrained(inputs: Path, output: Path, **settings: Any) -> Manifest:
    made: dict[str, Any] = {"steps": 40, "batch_size": 4, "validation_interval": 20, "workers": GPU}
    return pretrain(
        PretrainConfig(waveforms=f"{inputs}/w", labels=f"{inputs}/l", output=str(output), **made | settings)
    )


def memory_gb(output: Path) -> list[float]:
    """Of the rows of a training's table; none where a CPU trained."""
    return [row["gpu_memory_gb"] for row in step_rows(str(output)) if "gpu_memory_gb" in row]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_pretraining_learns_and_says_what_memory_it_takes(inputs: Path, tmp_path: Path, precision: Any) -> None:
    """The codes of 15 recordings of noise are soon learnt by heart; the loss of guessing is that of the start."""
    found = pretrained(inputs, tmp_path / "c", compute=ComputeConfig(precision=precision), steps=60)
    rows = step_rows(str(tmp_path / "c"))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(0.001 < value < 10 for value in memory_gb(tmp_path / "c"))
    assert len(memory_gb(tmp_path / "c")) == 6
    assert found.facts["steps_done"] == 60


@pytest.mark.usefixtures("ray_cluster")
def test_deterministic_trainings_end_in_the_same_weights(inputs: Path, tmp_path: Path) -> None:
    runs = [pretrained(inputs, tmp_path / name, compute=ComputeConfig(deterministic=True)) for name in "ab"]
    assert runs[0].facts["checkpoint"] == runs[1].facts["checkpoint"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_begun_on_a_gpu_goes_on_without_one(inputs: Path, tmp_path: Path) -> None:
    pretrained(inputs, tmp_path / "c")
    without = WorkersConfig(threads_each=1)
    on = pretrained(inputs, tmp_path / "more", steps=60, resume=str(tmp_path / "c"), workers=without)
    assert on.facts["steps_done"] == 60
    assert memory_gb(tmp_path / "c")
    assert not memory_gb(tmp_path / "more")


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_fine_tuned_on_a_gpu_predicts_without_one(inputs: Path, tmp_path: Path) -> None:
    first = pretrained(inputs, tmp_path / "c").directory
    config = FinetuneConfig(
        waveforms=f"{inputs}/w",
        checkpoint=first,
        label_set="classes",
        steps=20,
        batch_size=4,
        validation_interval=10,
        compute=ComputeConfig(precision="bfloat16"),
        workers=GPU,
        output=str(tmp_path / "m"),
    )
    model, info = load_checkpoint(finetune(config).directory, expect="classifier")
    there, here = (Predictor(model, info, device=device).apply(waveforms(3)) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=2e-3)


@pytest.mark.usefixtures("ray_cluster")
def test_hidden_layers_are_dumped_as_on_a_cpu(tmp_path: Path) -> None:
    rows = waveform_tables.noisy_rows(12)
    table = waveform_tables.write_waveforms(str(tmp_path / "w"), rows, shards=3)
    model = waveform_tables.save_model(tmp_path / "c")
    config = DumpConfig(
        waveforms=table.directory,
        descriptor="latent",
        checkpoint=str(tmp_path / "c"),
        layer=1,
        output=str(tmp_path / "f"),
    )
    found = open_artifact(dump(config).directory)
    parts = [files.read_table(found.part(part)) for part in range(found.parts)]
    features = np.concatenate([tables.stack_rows(part["features"]) for part in parts if part.num_rows])
    wanted = []
    for part in parts:
        for name, start in zip(part["record_id"].to_pylist(), part["crop_start_s"].to_pylist(), strict=True):
            counts = next(row.counts for row in rows if row.record_id == name)
            ecg = torch.from_numpy(model_input(counts, start, PreprocessConfig()))[None]
            with torch.inference_mode():
                wanted.append(model.encode(ecg, output_hidden_states=True).hidden_states[2][0].numpy())
    distance_of_all = np.linalg.norm(features.reshape(len(wanted), 93, -1) - np.stack(wanted))
    assert distance_of_all < CLOSE * np.linalg.norm(np.stack(wanted))


def test_the_service_answers_from_a_gpu_as_the_library_does_on_a_cpu(tmp_path: Path) -> None:
    checkpoint, samples = save_classifier(tmp_path / "m"), ecg()
    with running({"m": checkpoint}, gpus_per_replica=0.5) as service, service.http() as http:
        answer = http.post(
            "/v1/predict",
            params={"sampling_rate_hz": 500},
            content=npy(samples),
            headers={"content-type": "application/octet-stream"},
        )
    assert answer.status_code == httpx.codes.OK, answer.text
    found = [label["probability"] for label in answer.json()["predictions"][0]["labels"]]
    predictor = Predictor.load(checkpoint, crops=CropConfig(num_crops=3), device="cpu")
    wanted = predictor.predict(Recording(samples=samples, sampling_rate_hz=500)).probabilities
    np.testing.assert_allclose(found, wanted, atol=2e-3)
