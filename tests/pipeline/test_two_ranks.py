"""Gradients do not depend on how recordings are divided: among ranks (real processes), or pieces of a rank's share."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hubert_ecg.models.dropouts import ClassifierDropoutConfig
from hubert_ecg.pipeline.training_run import TrainingJob
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.training.auxiliary import AuxiliaryConfig
from hubert_ecg.training.average import running_statistics
from hubert_ecg.training.objectives import MaskingConfig
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.step import Batch, Learner, StepLoss
from tests.pipeline.auxiliary_tables import write_auxiliary_waveforms
from tests.pipeline.training_jobs import batch_of, distance, finetune_job, gradients, learner_of, pretrain_job
from tests.training.padded import write_codes, write_waveforms

STEP = 3
# The first rank gets complete recordings, the second a short one, one without six leads, and two of beats only.
ROWS = [(0, 0, 0), (0, 4, 1), (0, 0, 2), (0, 4, 3), (0, 1, 4), (0, 2, 5), (0, 3, 6), (0, 3, 7)]
CASES = {"masked codes": 1, "masked codes in pieces": 3, "weighted classes": 1, "weighted classes in pieces": 2}
AUXILIARY_CASES = {"auxiliary targets": 1, "auxiliary targets in pieces": 3}
SETTINGS: dict[str, Any] = {"batch_size": len(ROWS), "optimiser": OptimiserConfig(lr=1e-3, clip_norm=0.0)}


@dataclass(frozen=True)
class Tables:
    waveforms: Manifest
    codes: Manifest
    known: Manifest
    """With more that is known of the recordings."""

    def job(self, case: str) -> TrainingJob:
        settings = SETTINGS | {"accumulation_steps": (CASES | AUXILIARY_CASES)[case]}
        if "codes" in case:
            return pretrain_job(self.waveforms, self.codes, masking=MaskingConfig(alpha=0.7), **settings)
        dropouts = ClassifierDropoutConfig(classifier=0.0)
        if case in AUXILIARY_CASES:
            known = AuxiliaryConfig(label_sets=("findings",), demographics=True, weight=0.5)
            return finetune_job(self.known, auxiliary=known, dropouts=dropouts, **settings)
        return finetune_job(self.waveforms, positive_weights=True, dropouts=dropouts, **settings)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("tables")
    waveforms = write_waveforms(folder / "w", splits=("train", "val", "test"))
    return Tables(waveforms, write_codes(folder / "l", waveforms), write_auxiliary_waveforms(folder / "known"))


def step_of(job: TrainingJob) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of this rank and gradients of a step as a worker takes it."""
    torch.manual_seed(0)
    module = job.make_module(None)
    if dist.is_initialized():
        module = DistributedDataParallel(module, find_unused_parameters=job.may_skip_parameters)
    learner = learner_of(job, module)
    loss = learner.step(batch_of(job, ROWS), STEP).loss
    return loss, gradients(module)


def parts_of_ranks(job: TrainingJob) -> list[tuple[StepLoss, dict[str, torch.Tensor]]]:
    """Worked out without learner and DDP: for each half of the recordings the sum of losses and its gradient."""
    torch.manual_seed(0)
    module = job.make_module(None).train()
    found = []
    for half in batch_of(job, ROWS).split(2):
        module.zero_grad(set_to_none=True)
        loss = job.step_loss(module, half, STEP)
        loss.total.backward()
        found.append((loss, gradients(module)))
    return found


class Halves(nn.Module):
    """A layer that only recordings of the first rank's first piece go through, beside one that all go through."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.all, self.some = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, inputs: torch.Tensor, some: bool) -> torch.Tensor:
        return (self.all(inputs) + (self.some(inputs) if some else 0)).square().sum()


def step_through_some_layers(rank: int | None) -> dict[str, torch.Tensor]:
    inputs = torch.arange(24.0).view(8, 3) / 10
    module: nn.Module = Halves()
    if rank is not None:
        module = DistributedDataParallel(module, find_unused_parameters=True)
        inputs = inputs[rank * 4 : rank * 4 + 4]

    def step_loss(piece: Batch, step: int) -> StepLoss:
        some = piece.offset == 0 and rank in (None, 0)
        total = module(piece.inputs, some)
        return StepLoss(total=total, weight=torch.tensor(float(len(piece.inputs))))

    learner = Learner(
        module=module,
        step_loss=step_loss,
        optimiser=torch.optim.SGD(module.parameters(), lr=0.1),
        optimiser_config=OptimiserConfig(clip_norm=0.0),
        steps=10,
        seed=0,
        accumulation_steps=4 if rank is None else 2,
    )
    learner.step(Batch(record_ids=[""] * len(inputs), inputs=inputs, targets=inputs), 0)
    return gradients(module)


def statistics_of(job: TrainingJob) -> dict[str, torch.Tensor]:
    """Running statistics of batch norms after a step and a validation."""
    torch.manual_seed(0)
    module: nn.Module = job.make_module(None)
    if dist.is_initialized():
        module = DistributedDataParallel(module, find_unused_parameters=job.may_skip_parameters)
    learner_of(job, module).step(batch_of(job, ROWS), 0)
    with torch.inference_mode():
        job.validate(module.eval(), [batch_of(job, ROWS)])
    return running_statistics(module)


def run_rank(rank: int, folder: str, waveforms: str, codes: str, known: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    tables = Tables(*map(open_artifact, (waveforms, codes, known)))
    save_file(statistics_of(finetune_job(tables.waveforms, size="residual", **SETTINGS)), f"{folder}/norms-{rank}")
    for case in CASES | AUXILIARY_CASES:
        loss, found = step_of(tables.job(case))
        save_file(found | {"loss": torch.tensor(loss, dtype=torch.float64)}, f"{folder}/{case}-{rank}")
    save_file(step_through_some_layers(rank), f"{folder}/some layers-{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have made of every case, by the name of the case and the rank."""
    folder = tmp_path_factory.mktemp("ranks")
    arguments = (str(folder), tables.waveforms.directory, tables.codes.directory, tables.known.directory)
    torch.multiprocessing.spawn(run_rank, arguments, nprocs=2)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_gradient_of_one(tables: Tables, two_ranks: Path, case: str) -> None:
    (first, of_first), (second, of_second) = parts_of_ranks(tables.job(case))
    weights = [float(part.weight) for part in (first, second)]
    assert max(weights) > 1.3 * min(weights)
    wanted = {name: (of_first[name] + of_second[name]) / sum(weights) for name in of_first}
    found = [load_file(two_ranks / f"{case}-{rank}") for rank in (0, 1)]
    losses = [float(tensors.pop("loss")) for tensors in found]
    assert distance(found[0], wanted) < 1e-5
    assert all(torch.equal(found[0][name], found[1][name]) for name in wanted)
    assert sum(losses) / 2 == pytest.approx(float((first.total + second.total).detach()) / sum(weights), rel=1e-5)
    # What averaging the ranks' own means would give is something else.
    naive = {name: (of_first[name] / weights[0] + of_second[name] / weights[1]) / 2 for name in wanted}
    assert distance(naive, wanted) > 1e-3


@pytest.mark.parametrize("case", AUXILIARY_CASES)
def test_two_ranks_learn_auxiliary_targets_as_one_does(tables: Tables, two_ranks: Path, case: str) -> None:
    """Of which the ranks, and the pieces, have different numbers known."""
    job = tables.job(case)
    torch.manual_seed(0)
    module = job.make_module(None).train()
    whole = job.step_loss(module, batch_of(job, ROWS), STEP)
    (whole.total / whole.weight).backward()
    halves = batch_of(job, ROWS).split(2)
    assert len({int(half.targets.isnan().sum()) for half in halves}) == 2
    found = [load_file(two_ranks / f"{case}-{rank}") for rank in (0, 1)]
    losses = [float(tensors.pop("loss")) for tensors in found]
    assert "auxiliary.linear.weight" in found[0]
    assert distance(found[0], gradients(module)) < 1e-5
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert sum(losses) / 2 == pytest.approx(float((whole.total / whole.weight).detach()), rel=1e-5)


def test_ranks_validate_with_the_mean_of_their_batch_norms(tables: Tables, two_ranks: Path) -> None:
    """Each has seen its own half of the recordings; the means over both are those over all of them."""
    first, second = (load_file(two_ranks / f"norms-{rank}") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = statistics_of(finetune_job(tables.waveforms, size="residual", **SETTINGS))
    name = "model.hubert_ecg.feature_extractor.norm.running_mean"
    assert alone[name].abs().max() > 0
    torch.testing.assert_close(first[name], alone[name])


@pytest.mark.parametrize("case", CASES)
def test_pieces_have_the_gradient_of_the_whole(tables: Tables, case: str) -> None:
    job = tables.job(case)
    torch.manual_seed(0)
    module = job.make_module(None).train()
    whole = job.step_loss(module, batch_of(job, ROWS), STEP)
    (whole.total / whole.weight).backward()
    loss, found = step_of(job)
    assert distance(found, gradients(module)) < 1e-5
    assert loss == pytest.approx(float((whole.total / whole.weight).detach()), rel=1e-5)


def test_a_layer_that_one_piece_of_one_rank_has_used_keeps_its_gradient(two_ranks: Path) -> None:
    """As layerdrop leaves layers out: DDP exchanges gradients with the last piece, which has not gone through it."""
    alone = step_through_some_layers(None)
    assert alone["some.weight"].abs().min() > 0
    for rank in (0, 1):
        assert distance(load_file(two_ranks / f"some layers-{rank}"), alone) < 1e-6
