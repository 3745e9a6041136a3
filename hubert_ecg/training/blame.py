"""A loss or gradient that is no finite number: which recordings of which rank made it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from hubert_ecg.errors import TrainingError
from hubert_ecg.training.ranks import gather_texts

if TYPE_CHECKING:
    from hubert_ecg.training.step import Batch, StepLoss

MOST_NAMED = 8


def blame(
    module: torch.nn.Module,
    loss_alone: "Callable[[Batch, int], StepLoss]",
    batch: "Batch",
    *,
    step: int,
    seed_step: Callable[[], None],
    what: str,
) -> TrainingError:
    """The error that names them; all ranks call it together and get the same. Each recording is tried by itself."""
    guilty = [
        batch.record_ids[index]
        for index in range(len(batch.record_ids))
        if not _is_finite(module, loss_alone, batch.only(index), step, seed_step)
    ]
    found = gather_texts("\n".join(guilty))
    sizes = gather_texts(str(len(batch.record_ids)))
    ranks = [f"rank {rank}, {_named(ids.split(chr(10)))}" for rank, ids in enumerate(found) if ids]
    total = sum(len(ids.split("\n")) for ids in found if ids)
    if not ranks:
        cause = "no recording of the batch by itself, only all of them together; lower --optimiser.lr"
    elif total == sum(map(int, sizes)):
        cause = f"every recording of the batch, so that the weights have diverged; lower --optimiser.lr ({ranks[0]})"
    else:
        cause = f"{'; '.join(ranks)}; look at these recordings, or lower --optimiser.lr"
    return TrainingError(f"step {step + 1}: {what}, made by {cause}; the last checkpoint is kept")


def _is_finite(
    module: torch.nn.Module,
    loss_alone: "Callable[[Batch, int], StepLoss]",
    batch: "Batch",
    step: int,
    seed_step: Callable[[], None],
) -> bool:
    """Whether inputs, loss and gradient of a batch are finite, the step's randomness being what it was."""
    if not torch.isfinite(batch.inputs).all():
        return False
    seed_step()
    total = loss_alone(batch, step).total
    if not math.isfinite(float(total.detach())):
        return False
    if not total.requires_grad:
        return True
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients if gradient is not None)


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"recording{'s' if len(ids) > 1 else ''} {', '.join(ids[:MOST_NAMED])}{more}"
