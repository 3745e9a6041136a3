"""A running mean of the weights (Polyak averaging): smoother than the weights themselves, and what is then judged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from hubert_ecg.training.ranks import all_reduce_sum, world_size


class WeightAverage:
    """The exponential moving average of the weights that train, and of the statistics of batch norms.

    After step t (0-based) the mean moves 1 - d of the way to the weights, d being the smaller of `decay` and
    (1 + t) / (10 + t): at first it follows closely, so that it does not hang on to weights from before the training.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        """The mean starts at the module's weights. DDP's wrapping of a module changes nothing here."""
        self.decay = decay
        self.weights = {
            name.removeprefix("module."): parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        } | running_statistics(module)
        self.means = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._swapped = False

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in self.weights.items():
            self.means[name].lerp_(weight, 1 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the module has the means for weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self.weights.items():
            held = weight.clone()
            weight.copy_(self.means[name])
            self.means[name].copy_(held)
        self._swapped = not self._swapped

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights themselves: the model that is saved beside them holds the means."""
        assert self._swapped, "a training with averaged weights is saved while these are in use"
        return dict(self.means)

    def described(self) -> Any:
        return None

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], described: Any) -> None:
        """The module holds the means, as they were saved, and gets the weights back."""
        for name, weight in self.weights.items():
            self.means[name].copy_(weight)
            weight.copy_(tensors[name])


def running_statistics(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The running means and variances of the batch norms of a module, by name. DDP's wrapping changes nothing here."""
    return {
        f"{name.removeprefix('module.')}.{statistic}": getattr(norm, statistic)
        for name, norm in module.named_modules()
        if isinstance(norm, _BatchNorm)
        for statistic in ("running_mean", "running_var")
    }


@torch.no_grad()
def even_out_statistics(module: torch.nn.Module) -> None:
    """Give the batch norms of every rank the mean of all ranks' statistics, in place: each has its own recordings'."""
    for statistic in running_statistics(module).values():
        all_reduce_sum(statistic)
        statistic /= world_size()
