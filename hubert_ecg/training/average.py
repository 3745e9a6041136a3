"""A running mean of the weights (Polyak averaging): smoother than the weights themselves, and what is then judged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class WeightAverage:
    """The exponential moving average of the weights that train.

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
        }
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
