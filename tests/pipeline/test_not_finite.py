"""NaN on one of two real Ray workers ends both at once, names the recording, and leaves the last good checkpoint."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.cloudpickle
import torch
from torch import nn

from hubert_ecg.errors import TrainingError
from hubert_ecg.pipeline.training_run import TrainingJob, WorkersConfig, run_training
from hubert_ecg.pipeline.training_setup import one_pass
from hubert_ecg.storage.artifact import StageOutput, begin
from hubert_ecg.storage.run_checkpoints import RunCheckpoints
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.loop import LoopConfig
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.state import TrainerState
from hubert_ecg.training.step import Batch, StepLoss
from hubert_ecg.training.targets import LabelTargets
from tests.training.padded import PREPROCESS, write_waveforms

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

POISONED, FROM_STEP = "1-3", 6


class Mean(nn.Module):
    """The square of a weighted mean of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        return ((self.weight * inputs.mean(1) * factors) ** 2).sum()


@dataclass(frozen=True, kw_only=True)
class Poisoned(TrainingJob):
    """From some step on the loss of one recording is NaN."""

    notes: str

    def make_module(self, directory: Path | None) -> nn.Module:
        with open(self.notes, "a") as file:
            file.write("started\n")
        return Mean()

    def step_loss(self, module: nn.Module, batch: Batch, step: int) -> StepLoss:
        bad = [name == POISONED and step >= FROM_STEP for name in batch.record_ids]
        factors = torch.where(torch.tensor(bad), torch.nan, 1.0)
        return StepLoss(total=module(batch.inputs, factors), weight=torch.tensor(float(len(bad))))

    def validate(self, module: nn.Module, batches: list[Batch]) -> dict[str, Any]:
        return {"val_loss": 0.0, "score": 0.0}

    def save(self, module: nn.Module, directory: Path, state: TrainerState) -> Any:
        directory.mkdir()
        (directory / "weight").write_text(str(module.weight.item()))


@pytest.mark.slow
def test_nan_on_one_of_two_workers_ends_both_and_names_the_recording(ray_cluster: None, tmp_path: Path) -> None:
    waveforms = write_waveforms(tmp_path / "w")
    rows = tuple(np.arange(5) for _ in range(waveforms.parts))
    targets = LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"))
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=0)
    job = Poisoned(
        loop=LoopConfig(steps=100, validation_interval=50, patience=0, seed=0, checkpoint_interval=2),
        optimiser=OptimiserConfig(),
        plan=StepPlan(selected=rows, batch_size=4, world_size=1, seed=0),
        reader=reader,
        validation_plan=one_pass(rows, 4),
        validation_reader=reader,
        workers=WorkersConfig(num=2, cpus_each=0.5, threads_each=1, max_failures=3),
        notes=str(tmp_path / "notes"),
    )
    output = begin(str(tmp_path / "out"), verb="finetune", config={}, inputs={})
    assert isinstance(output, StageOutput)
    with pytest.raises(TrainingError) as raised:
        run_training(job, output)
    # Which step and rank the recording comes to next is the plan's business, and known from it.
    step, rank = next(
        (step, rank)
        for step in range(FROM_STEP, 20)
        for rank in (0, 1)
        for window in job.plan.windows(step, step + 1)
        for part, row, _ in StepPlan(selected=rows, batch_size=4, world_size=2, seed=0)
        .rank_rows(window, rank, step, step + 1)
        .tolist()
        if f"{part}-{row}" == POISONED
    )
    print(f"\n{raised.value}")
    assert f"step {step + 1}: the loss is nan, made by rank {rank}, recording {POISONED};" in str(raised.value)
    assert (tmp_path / "notes").read_text() == 2 * "started\n"  # no rank was started anew
    latest = RunCheckpoints(directory=f"{output.directory}/trainer/run", keep=3).latest()
    assert latest is not None
    assert latest.step == step - step % 2
