"""Trainings without Ray, for tests: jobs over the small table of tests/training/padded.py, batches and learners."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from hubert_ecg.pipeline.finetune import FinetuneConfig, FinetuneJob, make_job
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.pipeline.pretrain import PretrainConfig, PretrainJob
from hubert_ecg.pipeline.training_run import TrainingJob, make_learner
from hubert_ecg.pipeline.training_setup import Inputs, job_fields, select_splits
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.batches import to_batch
from hubert_ecg.training.optimiser import make_optimiser
from hubert_ecg.training.ranks import rank, world_size
from hubert_ecg.training.step import Batch, Learner, StepLoss
from hubert_ecg.training.targets import CodeTargets
from tests.training.padded import TOKENS

CPU = torch.device("cpu")


def pretrain_job(waveforms: Manifest, codes: Manifest, **settings: Any) -> PretrainJob:
    config = PretrainConfig(waveforms=waveforms.directory, labels=codes.directory, output="unused", **settings)
    books = codes.facts["codebooks"]
    targets = CodeTargets(codes=codes, codebooks=tuple(books), num_tokens=TOKENS)
    fields = job_fields(config, Inputs.open(config), select_splits(waveforms, "recordings"), targets)
    sizes = tuple(book["num_clusters"] for book in books.values())
    return PretrainJob(**fields, codebooks=tuple(books), vocab_sizes=sizes, num_tokens=TOKENS, provenance={})


def finetune_job(waveforms: Manifest, label_set: str = "classes", **settings: Any) -> FinetuneJob:
    config = FinetuneConfig(waveforms=waveforms.directory, output="unused", label_set=label_set, **settings)
    return make_job(config, Inputs.open(config), label_sets_of(waveforms)[label_set])


def learner_of(job: TrainingJob, module: nn.Module) -> Learner:
    """As a worker of Ray Train makes it."""
    module.train()
    optimiser = make_optimiser(module, job.optimiser)

    def step_loss(batch: Batch, step: int) -> StepLoss:
        with job.compute.autocast(CPU):
            return job.step_loss(module, batch, step)

    return make_learner(job, module, optimiser, step_loss, CPU)


def batch_of(job: TrainingJob, rows: list[tuple[int, int, int]]) -> Batch:
    """This rank's share of a step that consists of these rows: shard, row and stream position of each."""
    share = len(rows) // world_size()
    mine = np.array(rows)[rank() * share : (rank() + 1) * share]
    return to_batch(pa.concat_tables(job.reader.read(mine)), CPU)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    """By name, of the module itself where DDP has wrapped it."""
    named = {name.removeprefix("module."): p.grad for name, p in module.named_parameters()}
    return {name: gradient.clone() for name, gradient in named.items() if gradient is not None}


def distance(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """L2 norm of the difference, as a share of that of what was wanted."""
    assert found.keys() == wanted.keys()
    difference = sum(float(((found[name] - wanted[name]) ** 2).sum()) for name in wanted)
    return float((difference / sum(float((tensor**2).sum()) for tensor in wanted.values())) ** 0.5)
