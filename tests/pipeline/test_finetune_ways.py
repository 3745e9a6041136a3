"""Ways of fine-tuning, without Ray: what trains in which step, low-rank adaptation and its going on, precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECG, model_config
from hubert_ecg.models.adapt import LoraConfig
from hubert_ecg.pipeline.finetune import ADAPTER, FinetuneConfig, FinetuneJob, finetune
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.pipeline.training_setup import Inputs, job_fields, select_splits
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.objectives import Classification
from hubert_ecg.training.optimiser import OptimiserConfig, make_optimiser
from hubert_ecg.training.state import TrainerState
from hubert_ecg.training.step import Batch
from hubert_ecg.training.targets import LabelTargets
from tests.training.padded import PREPROCESS, write_waveforms

LABELS = ("AFIB", "CRBBB", "NORM")


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w", splits=("train", "val", "test"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 3}
    model = HubertECG(model_config("tiny", vocab_sizes=(5,), **shape))
    place = tmp_path_factory.mktemp("c")
    save_checkpoint(place, model, CheckpointInfo(kind="ssl", preprocessing=PREPROCESS.to_dict()))
    return str(place)


def job_of(waveforms: Manifest, **settings: Any) -> FinetuneJob:
    config = FinetuneConfig(waveforms=waveforms.directory, output="unused", label_set="classes", **settings)
    targets = LabelTargets(label_set="classes", labels=LABELS, task="multi_class")
    inputs = Inputs.open(config)
    fields = job_fields(config, inputs, select_splits(inputs.waveforms, "recordings"), targets)
    return FinetuneJob(**fields, targets=targets, prevalence=(0.4, 0.2, 0.4), scale=None, provenance={})


def batch() -> Batch:
    inputs = torch.randn(3, 6000, generator=torch.Generator().manual_seed(1))
    return Batch(record_ids=list("abc"), inputs=inputs, targets=torch.tensor([[0], [1], [2]]))


def step(job: FinetuneJob, module: Classification, optimiser: torch.optim.Optimizer, number: int) -> None:
    loss = job.step_loss(module, batch(), number)
    optimiser.zero_grad(set_to_none=True)
    loss.total.backward()
    optimiser.step()


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def test_the_head_trains_first_and_then_what_was_asked_for(waveforms: Manifest, checkpoint: str) -> None:
    job = job_of(waveforms, checkpoint=checkpoint, freeze_steps=2, train_blocks=1)
    module = job.make_module(None)
    optimiser = make_optimiser(module, OptimiserConfig(lr=1e-3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for number in (0, 1):
        step(job, module, optimiser, number)
        assert changed(before, module) == {"model.classifier.weight", "model.classifier.bias"}
    step(job, module, optimiser, 2)
    moved = changed(before, module) - {"model.classifier.weight", "model.classifier.bias"}
    assert moved
    assert all(name.startswith("model.hubert_ecg.encoder.layers.2.") for name in moved)


def test_a_low_rank_adaptation_is_saved_merged_and_goes_on(
    waveforms: Manifest, checkpoint: str, tmp_path: Path
) -> None:
    job = job_of(waveforms, checkpoint=checkpoint, lora=LoraConfig(rank=2))
    module = job.make_module(None)
    optimiser = make_optimiser(module, OptimiserConfig(lr=1e-2, weight_decay=0.0))
    for number in range(3):
        step(job, module, optimiser, number)
    job.save(module.eval(), tmp_path, TrainerState(step=3, history=[{"step": 3}]))
    logits = module.model(batch().inputs).logits.detach()
    merged, info = load_checkpoint(tmp_path, expect="classifier")
    assert info.label_names == LABELS
    torch.testing.assert_close(merged(batch().inputs).logits.detach(), logits, atol=1e-5, rtol=1e-4)
    assert (tmp_path / ADAPTER).stat().st_size < 30_000
    again = job.make_module(tmp_path).eval()
    assert torch.equal(again.model(batch().inputs).logits, logits)
    trainable = [p.shape for p in module.parameters() if p.requires_grad]
    assert [p.shape for p in again.parameters() if p.requires_grad] == trainable


@pytest.mark.parametrize("encoder", ["state_space", "residual"])
def test_an_encoder_of_leads_side_by_side_trains_is_saved_and_goes_on(
    waveforms: Manifest, tmp_path: Path, encoder: str
) -> None:
    torch.manual_seed(0)
    job = job_of(waveforms, size=encoder)
    module = job.make_module(None)
    assert module.model.config.encoder == encoder
    optimiser = make_optimiser(module, OptimiserConfig(lr=1e-3))
    losses = []
    for number in range(8):
        losses.append(float(job.step_loss(module, batch(), number).total.detach()))
        step(job, module, optimiser, number)
    assert losses[-1] < losses[0]
    job.save(module.eval(), tmp_path, TrainerState(step=8, history=[{"step": 8}]))
    again = job.make_module(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again.model(batch().inputs).logits, module.model(batch().inputs).logits)


@pytest.mark.parametrize("encoder", ["state_space", "residual"])
def test_what_such_an_encoder_does_not_keep_is_not_computed_again(encoder: str) -> None:
    with pytest.raises(ConfigError, match=f"--compute.gradient_checkpointing: .* a {encoder} encoder keeps little"):
        FinetuneConfig(
            waveforms="W",
            output="M",
            label_set="x",
            size=encoder,
            compute=ComputeConfig(gradient_checkpointing=True),
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"lora": LoraConfig(rank=2)},
        {"lora": LoraConfig(rank=2), "checkpoint": "C", "freeze_steps": 3},
        {"lora": LoraConfig(rank=2), "checkpoint": "C", "train_blocks": 0},
        {"freeze_steps": -1},
        {"train_blocks": -1},
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--lora.rank|--freeze_steps"):
        FinetuneConfig(waveforms="W", output="M", label_set="x", **settings)


def test_layers_below_learn_more_slowly(waveforms: Manifest, checkpoint: str) -> None:
    module = job_of(waveforms, checkpoint=checkpoint).make_module(None)
    optimiser = make_optimiser(module, OptimiserConfig(lr=1e-3, layer_decay=0.5))
    assert [group["lr_scale"] for group in optimiser.param_groups] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    with pytest.raises(ConfigError, match="layer_decay"):
        OptimiserConfig(layer_decay=0.0)


def test_precision_and_recomputation_change_the_loss_by_rounding_only(waveforms: Manifest, checkpoint: str) -> None:
    job = job_of(waveforms, checkpoint=checkpoint)
    results, passes = [], []
    for compute in (ComputeConfig(), ComputeConfig(gradient_checkpointing=True), ComputeConfig(precision="bfloat16")):
        torch.manual_seed(0)
        job = replace(job, compute=compute)
        module = job.make_module(None).train()
        job.compute.prepare(module)
        calls: list[int] = []
        module.model.hubert_ecg.encoder.layers[0].feed_forward.register_forward_pre_hook(
            lambda *_, c=calls: c.append(1)
        )
        with job.compute.autocast(torch.device("cpu")):
            loss = job.step_loss(module, batch(), 0)
        loss.total.backward()
        gradient = module.model.hubert_ecg.encoder.layers[0].attention.v_proj.weight.grad
        assert loss.total.dtype == gradient.dtype == torch.float32
        results.append((float(loss.total.detach()), gradient))
        passes.append(len(calls))
    plain, recomputed, rounded = results
    assert passes == [1, 2, 1]
    assert recomputed[0] == plain[0]
    torch.testing.assert_close(recomputed[1], plain[1])
    assert rounded[0] == pytest.approx(plain[0], rel=0.02)
    assert rounded[0] != plain[0]
    assert torch.cosine_similarity(rounded[1].flatten(), plain[1].flatten(), dim=0) > 0.99


@pytest.mark.slow
def test_a_share_of_the_labels_is_trained_on_and_stated(ray_cluster: None, waveforms: Manifest, tmp_path: Path) -> None:
    settings = {"label_set": "classes", "steps": 1, "batch_size": 2, "train_fraction": 0.4}
    made = finetune(FinetuneConfig(waveforms=waveforms.directory, output=str(tmp_path / "m"), **settings))
    assert made.facts["train_fraction"] == 0.4
    assert made.facts["counts"] == {"train": 2, "val": 5}
    assert load_checkpoint(tmp_path / "m", expect="classifier")[1].provenance["counts"]["train"] == 2


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"--train_fraction: wanted a share in \(0, 1\]"):
        FinetuneConfig(waveforms="W", output="M", label_set="x", train_fraction=share)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["freezing", "low-rank"])
def test_two_workers_fine_tune_as_one_does(
    ray_cluster: None, waveforms: Manifest, checkpoint: str, tmp_path: Path, way: str
) -> None:
    settings: dict[str, Any] = {"freeze_steps": 2} if way == "freezing" else {"lora": LoraConfig(rank=2)}
    losses = []
    for num in (1, 2):
        output = str(tmp_path / f"m{num}")
        config = FinetuneConfig(
            waveforms=waveforms.directory,
            label_set="classes",
            checkpoint=checkpoint,
            output=output,
            workers=WorkersConfig(num=num, cpus_each=1 / num),
            steps=4,
            batch_size=4,
            validation_interval=2,
            **settings,
        )
        losses.append(finetune(config).facts["best"]["val_loss"])
        assert load_checkpoint(output, expect="classifier")[1].label_names == LABELS
        assert (Path(output) / ADAPTER).exists() == (way == "low-rank")
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
