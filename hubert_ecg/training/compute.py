"""How the arithmetic of a training is done: in which precision, and what is computed twice to save memory."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Precision and memory of a training."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: matrix products and convolutions of training steps in bfloat16, weights, losses and validation in
    float32. Two to three times as fast on processors with avx512_bf16 or amx and on GPUs, slower on others."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, layer by layer, rather than keep them: a third more time, a
    fraction of the memory."""

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which a training step computes its loss."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def prepare(self, objective: nn.Module) -> None:
        """Switch gradient checkpointing on in the model of an objective, if it is asked for."""
        if self.gradient_checkpointing:
            for model in objective.children():
                if isinstance(model, PreTrainedModel):
                    # The later of its two names.
                    later = getattr(model, "activation_checkpointing_enable", None)
                    (later or model.gradient_checkpointing_enable)()
