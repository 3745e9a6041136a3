"""The training loop: forward, backward, clip, step, validate, save; the same on one rank or many, and without Ray."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch

from hubert_ecg.training.blame import blame
from hubert_ecg.training.optimiser import OptimiserConfig, learning_rate
from hubert_ecg.training.progress import Progress
from hubert_ecg.training.ranks import all_reduce_sum, rank, world_size
from hubert_ecg.training.state import TrainerState

log = logging.getLogger(__name__)

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

    def only(self, index: int) -> Self:
        """The batch of one of its recordings."""
        mask = self.attention_mask
        return replace(
            self,
            record_ids=[self.record_ids[index]],
            inputs=self.inputs[index : index + 1],
            targets=self.targets[index : index + 1],
            attention_mask=None if mask is None else mask[index : index + 1],
        )


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
    checkpoint_interval: int = 0
    """Steps between checkpoints, beside those at the best validation so far and at the end; 0: at every validation."""
    log_interval: int = 10
    """Steps between the rows that an observer is given."""


StepFunction = Callable[[Batch, int], StepLoss]
"""Forward pass of one rank: batch and step number -> loss."""
Validation = Callable[[], dict[str, Any]]
"""All ranks together: metrics of the validation split; must hold `score`, higher is better."""


class Observer:
    """What goes on around the steps. Every method is called on every rank, in the same order; this one does nothing."""

    def stop_asked(self) -> bool:
        """Whether the run is to save and end after this step; one rank that says so is enough."""
        return False

    def on_row(self, row: dict[str, float]) -> None:
        """Every few steps: step, loss, learning rate and speed, as `training.progress` describes them."""

    def on_validation(self, row: dict[str, Any]) -> None:
        """The metrics of a validation."""

    def save(self, state: TrainerState, score: float | None) -> None:
        """Make a checkpoint. `score` is that of a validation at this very step, None where there was none."""


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
    observer: Observer,
    loss_alone: StepFunction | None = None,
) -> None:
    """Train from `state.step` to `config.steps`, until patience runs out or a stop is asked for. Updates `state`.

    Randomness inside the step (dropout) is re-seeded from seed, step and rank, so that a resumed run repeats it.
    `loss_alone` is `step_loss` for a module that is not wrapped for several ranks: it is called on this rank only.
    Raises TrainingError, on all ranks together, when loss or gradient are no finite numbers, naming step, rank and
    recordings.
    """
    progress = Progress(config.steps)
    module.train()
    while state.step < config.steps and not _out_of_patience(state, config):
        began = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - began
        done = _one_step(module, step_loss, batch, optimiser, state.step, optimiser_config, config)
        loss, stop = _over_ranks(done.loss, observer.stop_asked(), batch.inputs.device)
        if not (math.isfinite(loss) and math.isfinite(done.gradient_norm)):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {done.gradient_norm}"
            again = partial(seed_step, config.seed, state.step)
            raise blame(module, loss_alone or step_loss, batch, step=state.step, seed_step=again, what=what)
        state.step += 1
        state.loss_sum, state.loss_steps = state.loss_sum + loss, state.loss_steps + 1
        progress.add(loss, len(batch.record_ids) * world_size(), waited)
        score, best = None, False
        if state.step % config.validation_interval == 0 or state.step == config.steps:
            best = _validate(module, state, config, validate, observer)
            score = state.history[-1]["score"]
        if state.step % config.log_interval == 0 or state.step == config.steps:
            observer.on_row(progress.row(state.step, max(group["lr"] for group in optimiser.param_groups)))
        if progress.due():
            _log_on_rank_0("%s", progress.line(state.step))
        if best or stop or _checkpoint_due(state, config, validated=score is not None):
            observer.save(state, score)
        if stop:
            return


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step came to on this rank. The optimiser has only stepped when the gradient is finite."""

    loss: float
    """Of this rank's recordings, scaled so that the mean over ranks is the loss of all."""
    gradient_norm: float
    """L2 norm over all parameters before clipping; the same on every rank."""


def _one_step(
    module: torch.nn.Module,
    step_loss: StepFunction,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    step: int,
    optimiser_config: OptimiserConfig,
    config: LoopConfig,
) -> StepResult:
    seed_step(config.seed, step)
    loss = step_loss(batch, step)
    weight = loss.weight.detach().clone()
    all_reduce_sum(weight)
    # DDP averages gradients over ranks, so each rank's share is scaled by the world size and divided by all weights.
    scaled = loss.total * (world_size() / weight.clamp(min=1e-12))
    rate = learning_rate(step, steps=config.steps, config=optimiser_config)
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    optimiser.zero_grad(set_to_none=True)
    scaled.backward()
    limit = optimiser_config.clip_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(module.parameters(), limit))
    if math.isfinite(norm):
        optimiser.step()
    return StepResult(loss=float(scaled.detach()), gradient_norm=norm)


def seed_step(seed: int, step: int) -> None:
    """Make the randomness of a step that of its number and this rank."""
    torch.manual_seed(np.random.SeedSequence([seed, step, rank()]).generate_state(1, np.uint64).item() >> 1)


def _over_ranks(loss: float, stop: bool, device: torch.device) -> tuple[float, bool]:
    """The loss of all ranks' recordings, and whether any rank is to stop: the same on every rank, in one exchange."""
    if world_size() == 1:
        return loss, stop
    both = torch.tensor([loss / world_size(), float(stop)], dtype=torch.float64, device=device)
    all_reduce_sum(both)
    return float(both[0]), bool(both[1] > 0)


def _validate(
    module: torch.nn.Module, state: TrainerState, config: LoopConfig, validate: Validation, observer: Observer
) -> bool:
    """Put a validation into the state; True when no validation before has had so high a score."""
    module.eval()
    metrics = {"step": state.step, "train_loss": state.loss_sum / state.loss_steps} | validate()
    module.train()
    state.loss_sum, state.loss_steps = 0.0, 0
    best = all(metrics["score"] > row["score"] for row in state.history)
    _note(state, metrics)
    _log_on_rank_0("step %d/%d: %s", state.step, config.steps, _line(metrics))
    observer.on_validation(metrics)
    return best


def _note(state: TrainerState, metrics: dict[str, Any]) -> None:
    """Count validations without an improvement by more than the smallest that matters."""
    better = state.best_score is None or metrics["score"] > state.best_score + MIN_IMPROVEMENT
    state.stale_validations = 0 if better else state.stale_validations + 1
    if better:
        state.best_score = metrics["score"]
    state.history.append(dict(metrics))


def _out_of_patience(state: TrainerState, config: LoopConfig) -> bool:
    return bool(config.patience) and state.stale_validations >= config.patience


def _checkpoint_due(state: TrainerState, config: LoopConfig, *, validated: bool) -> bool:
    """Whether a checkpoint is to be made here, best or not."""
    if state.step == config.steps or _out_of_patience(state, config):
        return True
    return state.step % config.checkpoint_interval == 0 if config.checkpoint_interval else validated


def _line(metrics: dict[str, Any]) -> str:
    shown = {name: value for name, value in metrics.items() if isinstance(value, float) and name != "score"}
    return ", ".join(f"{name} {value:.4f}" for name, value in shown.items())


def _log_on_rank_0(message: str, *values: Any) -> None:
    if rank() == 0:
        log.info(message, *values)
