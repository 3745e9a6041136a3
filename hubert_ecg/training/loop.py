"""The training loop: steps, validations and checkpoints; the same on one rank or many, and without Ray."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hubert_ecg.training.blame import blame
from hubert_ecg.training.progress import Progress, gpu_row
from hubert_ecg.training.ranks import all_reduce_sum, rank, world_size
from hubert_ecg.training.state import TrainerState
from hubert_ecg.training.step import Batch, Learner, StepFunction, seed_step

log = logging.getLogger(__name__)

MIN_IMPROVEMENT = 1e-3


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and how often to look."""

    steps: int
    validation_interval: int
    patience: int
    """Stop after this many validations in a row without a lower loss; 0 never stops early."""
    seed: int
    accumulation_steps: int = 1
    """Pieces in which a rank computes its share of a step."""
    checkpoint_interval: int = 0
    """Steps between checkpoints, beside those at better validations and at the end; 0: at every validation."""
    log_interval: int = 10
    """Steps between the rows that an observer is given."""


Validation = Callable[[], dict[str, Any]]
"""All ranks together: metrics of the validation split; must hold `val_loss`, and `score`, which is to rise."""


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
    learner: Learner,
    batches: Iterator[Batch],
    state: TrainerState,
    *,
    config: LoopConfig,
    validate: Validation,
    observer: Observer,
    loss_alone: StepFunction | None = None,
) -> None:
    """Train from `state.step` to `config.steps`, until patience runs out or a stop is asked for. Updates `state`.

    `loss_alone` is the learner's `step_loss` for a module that is not wrapped for several ranks: it is called on this
    rank only. Raises TrainingError, on all ranks together, when loss or gradient are no finite numbers, naming step,
    rank and recordings.
    """
    progress = Progress(config.steps)
    learner.module.train()
    if is_over(state, config) and not state.history:  # It begins from another run's model that is finished.
        _validate(learner, state, config, validate, observer)
        with learner.averaged():
            observer.save(state, state.history[-1]["score"])
    while not is_over(state, config):
        began = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - began
        done = learner.step(batch, state.step)
        loss, stop = _over_ranks(done.loss, observer.stop_asked(), batch.inputs.device)
        if not (math.isfinite(loss) and done.is_finite):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {done.gradient_norm}"
            again = partial(seed_step, config.seed, state.step)
            alone = loss_alone or learner.step_loss
            raise blame(learner.module, alone, batch, step=state.step, seed_step=again, what=what)
        state.step += 1
        state.loss_sum, state.loss_steps = state.loss_sum + loss, state.loss_steps + 1
        progress.add(loss, len(batch.record_ids) * world_size(), waited)
        score, better = None, False
        if state.step % config.validation_interval == 0 or state.step == config.steps:
            better = _validate(learner, state, config, validate, observer)
            score = state.history[-1]["score"]
        if state.step % config.log_interval == 0 or state.step == config.steps:
            row = progress.row(state.step, max(group["lr"] for group in learner.optimiser.param_groups))
            observer.on_row(row | gpu_row(batch.inputs.device))
        if progress.due():
            _log_on_rank_0("%s", progress.line(state.step))
        if better or stop or _checkpoint_due(state, config, validated=score is not None):
            with learner.averaged():
                observer.save(state, score)
        if stop:
            return


def _over_ranks(loss: float, stop: bool, device: torch.device) -> tuple[float, bool]:
    """The loss of all ranks' recordings, and whether any rank is to stop: the same on every rank, in one exchange."""
    if world_size() == 1:
        return loss, stop
    both = torch.tensor([loss / world_size(), float(stop)], dtype=torch.float64, device=device)
    all_reduce_sum(both)
    return float(both[0]), bool(both[1] > 0)


def _validate(
    learner: Learner, state: TrainerState, config: LoopConfig, validate: Validation, observer: Observer
) -> bool:
    """Put a validation into the state; True when it is better than those before."""
    learner.module.eval()
    with learner.averaged():
        trained = {"train_loss": state.loss_sum / state.loss_steps} if state.loss_steps else {}
        metrics = {"step": state.step, **trained, **validate()}
    learner.module.train()
    state.loss_sum, state.loss_steps = 0.0, 0
    better = _note(state, metrics)
    learner.validated(better, state.stale_validations)
    _log_on_rank_0("step %d/%d: %s", state.step, config.steps, _line(metrics))
    observer.on_validation(metrics)
    return better


def _note(state: TrainerState, metrics: dict[str, Any]) -> bool:
    """True where the loss is lower by the smallest improvement that matters, or the score the highest so far.

    Only the loss ends the count of validations by which patience is measured.
    """
    loss, score = metrics["val_loss"], metrics["score"]
    lower = state.best_loss is None or loss < state.best_loss - MIN_IMPROVEMENT
    higher = state.best_score is None or score > state.best_score
    state.stale_validations = 0 if lower else state.stale_validations + 1
    if lower:
        state.best_loss = loss
    if higher:
        state.best_score = score
    state.history.append(dict(metrics))
    return lower or higher


def is_over(state: TrainerState, config: LoopConfig) -> bool:
    """Whether all steps are done, or patience has run out."""
    return state.step >= config.steps or (bool(config.patience) and state.stale_validations >= config.patience)


def _checkpoint_due(state: TrainerState, config: LoopConfig, *, validated: bool) -> bool:
    """Whether a checkpoint is to be made here, best or not."""
    if is_over(state, config):
        return True
    return state.step % config.checkpoint_interval == 0 if config.checkpoint_interval else validated


def _line(metrics: dict[str, Any]) -> str:
    shown = {name: value for name, value in metrics.items() if isinstance(value, float) and name != "score"}
    return ", ".join(f"{name} {value:.4f}" for name, value in shown.items())


def _log_on_rank_0(message: str, *values: Any) -> None:
    if rank() == 0:
        log.info(message, *values)
