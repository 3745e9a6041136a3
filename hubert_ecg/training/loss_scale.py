"""The scale of the loss in float16, whose gradients would otherwise vanish or overflow."""

from typing import Any

import torch

LEAST_SCALE = 2.0**-10
"""Gradients that overflow at a scale as small as this do so whatever the scale is."""


class LossScale:
    """Multiplies losses by a scale that halves when a gradient overflows (the step is then left out) and doubles after
    2,000 steps without. torch's GradScaler, as a part of the training's state."""

    def __init__(self, device_type: str) -> None:
        self.scaler = torch.amp.GradScaler(device_type)

    @property
    def may_fall(self) -> bool:
        """Whether an overflow is something that a smaller scale may mend."""
        return self.scaler.get_scale() >= LEAST_SCALE

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return self.scaler.scale(loss)

    def unscale(self, optimiser: torch.optim.Optimizer) -> None:
        """Divide the optimiser's gradients by the scale."""
        self.scaler.unscale_(optimiser)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """The optimiser's step, unless a gradient overflowed; then adjust the scale."""
        self.scaler.step(optimiser)
        self.scaler.update()

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def described(self) -> Any:
        return self.scaler.state_dict()

    def restore(self, tensors: dict[str, torch.Tensor], described: Any) -> None:
        self.scaler.load_state_dict(described)
