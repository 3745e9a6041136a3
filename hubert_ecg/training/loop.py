"""The training loop: forward, backward, clip, step, validate; the same on one rank or many, and without Ray."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hubert_ecg.errors import TrainingError
from hubert_ecg.training.optimiser import OptimiserConfig, learning_rate
from hubert_ecg.training.ranks import all_reduce_sum, rank, world_size
from hubert_ecg.training.state import TrainerState

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
MIN_IMPROVEMENT = 1e-3


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's share of a step."""

    record_ids: list[str]
    inputs: torch.Tensor
    """[B, 12 * T] float32."""
    targets: torch.Tensor
    """What the objective takes: codes [B, codebook * token] int64, labels or numbers [B, label], class ids [B, 1]."""
    attention_mask: torch.Tensor | None = None
    """[B, 12 * T] bool, False for samples that no token may attend to; None: all of them count."""


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """A loss as sum and weight, so that ranks with unequal weights can be averaged rightly."""

    total: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and how often to look."""

    steps: int
    validation_interval: int
    patience: int
    """Stop after this many validations in a row without a better score; 0 never stops early."""
    seed: int


StepFunction = Callable[[Batch, int], StepLoss]
"""Forward pass of one rank: batch and step number -> loss."""
Validation = Callable[[], dict[str, Any]]
"""All ranks together: metrics of the validation split; must hold `score`, higher is better."""
Report = Callable[[TrainerState, dict[str, Any], bool], None]
"""Called on every rank after a validation: state, metrics, whether this is the best so far."""


def train(
    module: torch.nn.Module,
    step_loss: StepFunction,
    batches: Iterator[Batch],
    optimiser: torch.optim.Optimizer,
    state: TrainerState,
    *,
    optimiser_config: OptimiserConfig,
    config: LoopConfig,
    validate: Validation,
    report: Report,
) -> None:
    """Train from `state.step` to `config.steps`, or until patience runs out. Updates `state` in place.

    Randomness inside the step (dropout) is re-seeded from seed, step and rank, so that a resumed run repeats it.
    Raises TrainingError when the loss is not a finite number, naming step, rank and recordings.
    """
    progress = _Progress(config.steps)
    module.train()
    while state.step < config.steps and not _out_of_patience(state, config):
        waited = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - waited
        loss = _one_step(module, step_loss, batch, optimiser, state.step, optimiser_config, config)
        state.step += 1
        progress.add(loss, len(batch.record_ids) * world_size(), waited)
        if state.step % config.validation_interval == 0 or state.step == config.steps:
            module.eval()
            metrics = {"step": state.step, "train_loss": _mean_of_ranks(progress.take_loss(), module)} | validate()
            module.train()
            better = _note(state, metrics)
            _log_on_rank_0("step %d/%d: %s", state.step, config.steps, _line(metrics))
            report(state, metrics, better)
        elif progress.due():
            _log_on_rank_0("%s", progress.line(state.step))


def _one_step(
    module: torch.nn.Module,
    step_loss: StepFunction,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    step: int,
    optimiser_config: OptimiserConfig,
    config: LoopConfig,
) -> float:
    torch.manual_seed(np.random.SeedSequence([config.seed, step, rank()]).generate_state(1, np.uint64).item() >> 1)
    loss = step_loss(batch, step)
    weight = loss.weight.detach().clone()
    all_reduce_sum(weight)
    # DDP averages gradients over ranks, so each rank's share is scaled by the world size and divided by all weights.
    scaled = loss.total * (world_size() / weight.clamp(min=1e-12))
    value = float(scaled.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"step {step}, rank {rank()}: the loss is {value}; recordings {batch.record_ids[:8]}"
            f"{' and more' if len(batch.record_ids) > 8 else ''}; the last checkpoint is kept, lower --optimiser.lr "
            f"or look at these recordings"
        )
    rate = learning_rate(step, steps=config.steps, config=optimiser_config)
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    optimiser.zero_grad(set_to_none=True)
    scaled.backward()
    if optimiser_config.clip_norm:
        torch.nn.utils.clip_grad_norm_(module.parameters(), optimiser_config.clip_norm)
    optimiser.step()
    return value


def _mean_of_ranks(value: float, module: torch.nn.Module) -> float:
    """Every rank has the loss of its own recordings; this is that of all."""
    total = torch.tensor(value, dtype=torch.float32, device=next(module.parameters()).device)
    all_reduce_sum(total)
    return float(total) / world_size()


def _note(state: TrainerState, metrics: dict[str, Any]) -> bool:
    """Put a validation into the state; True when it is the best so far by more than the smallest improvement."""
    better = state.best_score is None or metrics["score"] > state.best_score + MIN_IMPROVEMENT
    state.stale_validations = 0 if better else state.stale_validations + 1
    if better:
        state.best_score = metrics["score"]
    state.history.append(dict(metrics))
    return better


def _out_of_patience(state: TrainerState, config: LoopConfig) -> bool:
    return bool(config.patience) and state.stale_validations >= config.patience


class _Progress:
    """Loss since the last validation; speed and share of time spent waiting for data since the last line."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self._begin_line()

    def _begin_line(self) -> None:
        self.last = time.monotonic()
        self.done, self.ecgs, self.waited = 0, 0, 0.0

    def add(self, loss: float, ecgs: int, waited: float) -> None:
        self.losses.append(loss)
        self.done += 1
        self.ecgs += ecgs
        self.waited += waited

    def take_loss(self) -> float:
        """Mean loss since it was last taken."""
        mean = sum(self.losses) / max(1, len(self.losses))
        self.losses = []
        return mean

    def due(self) -> bool:
        return time.monotonic() - self.last >= SECONDS_BETWEEN_LINES

    def line(self, step: int) -> str:
        elapsed = time.monotonic() - self.last
        recent = self.losses[-20:]
        text = (
            f"step {step}/{self.steps}: loss {sum(recent) / len(recent):.4f}, {self.ecgs / elapsed:.0f} ECGs/s, "
            f"{elapsed / self.done * (self.steps - step):.0f} s left, "
            f"{100 * self.waited / elapsed:.0f} % of the time waiting for data"
        )
        self._begin_line()
        return text


def _line(metrics: dict[str, Any]) -> str:
    shown = {name: value for name, value in metrics.items() if isinstance(value, float) and name != "score"}
    return ", ".join(f"{name} {value:.4f}" for name, value in shown.items())


def _log_on_rank_0(message: str, *values: Any) -> None:
    if rank() == 0:
        log.info(message, *values)
