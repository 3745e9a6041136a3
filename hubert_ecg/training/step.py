"""One training step: forward and backward in pieces, the gradient of the whole, clipping, and the optimiser's move.

The loss of a step is a ratio: the sum over all ranks and pieces, divided by the weight of all of them. Gradients are
those of that ratio however the recordings are divided, because sums are accumulated and the weight comes in at the end.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from hubert_ecg.training.average import WeightAverage
from hubert_ecg.training.loss_scale import LossScale
from hubert_ecg.training.optimiser import OptimiserConfig, learning_rate
from hubert_ecg.training.ranks import all_reduce_sum, rank, world_size
from hubert_ecg.training.regulariser import DynamicRegulariser
from hubert_ecg.training.state import StatePart


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's share of a step, or a piece of it."""

    record_ids: list[str]
    inputs: torch.Tensor
    """[B, 12 * T] float32."""
    targets: torch.Tensor
    """What the objective takes: codes [B, codebook * token] int64, labels or numbers [B, label], class ids [B, 1]."""
    attention_mask: torch.Tensor | None = None
    """[B, 12 * T] bool, False for samples that no token may attend to; None: all of them count."""
    offset: int = 0
    """Place of the first of these recordings in the rank's share of the step."""

    def only(self, index: int) -> "Batch":
        """The batch of one of its recordings."""
        return self._part(index, index + 1)

    def split(self, pieces: int) -> list["Batch"]:
        """The recordings in at most `pieces` batches, whose sizes differ by one at most."""
        if pieces == 1:
            return [self]
        places = [part for part in np.array_split(np.arange(len(self.record_ids)), pieces) if len(part)]
        return [self._part(int(part[0]), int(part[-1]) + 1) for part in places]

    def _part(self, first: int, end: int) -> "Batch":
        return Batch(
            record_ids=self.record_ids[first:end],
            inputs=self.inputs[first:end],
            targets=self.targets[first:end],
            attention_mask=None if self.attention_mask is None else self.attention_mask[first:end],
            offset=self.offset + first,
        )


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """A loss as sum and weight, so that ranks with unequal weights can be averaged rightly."""

    total: torch.Tensor
    weight: torch.Tensor


StepFunction = Callable[[Batch, int], StepLoss]
"""Forward pass of one rank: batch and step number -> loss."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step came to on this rank. The optimiser has moved only if `is_finite` and nothing overflowed."""

    loss: float
    """Of this rank's recordings, scaled so that the mean over ranks is the loss of all."""
    gradient_norm: float
    """L2 norm over all weights before clipping; the same on every rank."""
    may_overflow: bool = False
    """The gradient is that of a loss scaled up for float16, whose scale falls after an overflow."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite numbers, or at least nothing worse than an overflow has happened."""
        return math.isfinite(self.loss) and (self.may_overflow or math.isfinite(self.gradient_norm))


@dataclass(kw_only=True)
class Learner:
    """All that a training changes, and how a step changes it."""

    module: torch.nn.Module
    """May be wrapped for DDP."""
    step_loss: StepFunction
    optimiser: torch.optim.Optimizer
    optimiser_config: OptimiserConfig
    steps: int
    """Steps of the whole training, over which the learning rate rises and falls."""
    seed: int
    accumulation_steps: int = 1
    """Pieces in which a step's recordings go through the module one after the other."""
    loss_scale: LossScale | None = None
    average: WeightAverage | None = None
    regulariser: DynamicRegulariser | None = None
    own_parts: Mapping[str, StatePart] = field(default_factory=dict)
    """What the kind of training adds to the parts."""

    @property
    def parts(self) -> dict[str, StatePart]:
        """What, besides weights and optimiser, has to go on where it stopped, by name."""
        named: dict[str, StatePart | None]
        named = {"loss_scale": self.loss_scale, "average": self.average, "regulariser": self.regulariser}
        # Before the average, which finds the module as it was saved.
        return dict(self.own_parts) | {name: part for name, part in named.items() if part is not None}

    def step(self, batch: Batch, number: int) -> StepResult:
        """Learn from one rank's share of step `number` (0-based).

        Randomness in it (dropout) is seeded from seed, step and rank, so that a resumed run repeats it.
        """
        seed_step(self.seed, number)
        rate = learning_rate(number, steps=self.steps, config=self.optimiser_config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimiser.zero_grad(set_to_none=True)
        recordings = len(batch.record_ids)
        pieces = batch.split(self.accumulation_steps)
        losses = [self._accumulate(piece, number, recordings, is_last=piece is pieces[-1]) for piece in pieces]
        total = torch.stack([loss.total.detach().float() for loss in losses]).sum()
        weight = torch.stack([loss.weight.detach().float() for loss in losses]).sum()
        all_reduce_sum(weight)
        # DDP averages gradients over ranks, hence the world size.
        to_ratio = world_size() / weight.clamp(min=1e-12)
        result = self._move(float(total * to_ratio), to_ratio * recordings)
        if self.average is not None:
            self.average.update(number)
        return result

    def _accumulate(self, piece: Batch, number: int, recordings: int, *, is_last: bool) -> StepLoss:
        """Add the gradient of the sum of a piece's losses, divided by the recordings of the rank's share."""
        with nullcontext() if is_last else self._without_exchange():
            loss = self.step_loss(piece, number)
            total = loss.total / recordings
            (total if self.loss_scale is None else self.loss_scale.scale(total)).backward()
        return loss

    def _without_exchange(self) -> AbstractContextManager[Any]:
        """Ranks exchange gradients once per step, with the last piece."""
        return self.module.no_sync() if isinstance(self.module, DistributedDataParallel) else nullcontext()

    def _move(self, loss: float, factor: torch.Tensor) -> StepResult:
        """Turn accumulated sums into the gradient, clip it, and let the optimiser move the weights if it is finite."""
        may_overflow = self.loss_scale is not None and self.loss_scale.may_fall
        if self.loss_scale is not None:
            self.loss_scale.unscale(self.optimiser)
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        for gradient in (weight.grad for weight in weights if weight.grad is not None):
            gradient.mul_(factor)
        norm = float(torch.nn.utils.clip_grad_norm_(weights, self.optimiser_config.clip_norm or math.inf))
        if self.loss_scale is not None:
            self.loss_scale.step(self.optimiser)
        elif math.isfinite(norm):
            self.optimiser.step()
        return StepResult(loss=loss, gradient_norm=norm, may_overflow=may_overflow)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the module has the weights that are validated and saved: the averaged ones, if there are any."""
        with nullcontext() if self.average is None else self.average.in_use():
            yield

    def validated(self, improved: bool, stale_validations: int) -> None:
        """Tell the regulariser what a validation has shown."""
        if self.regulariser is not None:
            self.regulariser.validated(improved, stale_validations)


def seed_step(seed: int, step: int) -> None:
    """Make the randomness of a step that of its number and this rank."""
    torch.manual_seed(np.random.SeedSequence([seed, step, rank()]).generate_state(1, np.uint64).item() >> 1)
