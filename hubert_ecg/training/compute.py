"""How the arithmetic of a training is done: in which precision, how repeatably, and what is computed twice."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Precision, repeatability and memory of a training."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """`bfloat16`: matrix products and convolutions of training steps in bfloat16, weights, losses and validation in
    float32. Faster on GPUs and on processors with avx512_bf16 or amx (1.7 times where that was measured), slower on
    others. `float16`: likewise, with a scale of the loss that adapts, for GPUs before bfloat16."""
    deterministic: bool = False
    """Only arithmetic that gives the same bits every time on one kind of machine, with one thread per worker unless
    --workers.threads_each says otherwise; an operation without such a form is an error. Slower."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, layer by layer, rather than keep them: a third more time, a
    fraction of the memory."""

    def set_up(self, *, threads: int, workers: int) -> None:
        """Make a worker's process ready, before its model is made. `threads`: as set, 0 if the machine decides."""
        share = 1 if self.deterministic else max(1, (os.cpu_count() or 1) // workers)
        torch.set_num_threads(threads or share)
        if self.deterministic:
            # Read by cuBLAS when it starts; without it matrix products on GPUs are not repeatable.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(self.deterministic)
        torch.backends.cudnn.deterministic = self.deterministic
        torch.backends.cudnn.benchmark = False

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which a training step computes its loss."""
        dtype = _AUTOCAST.get(self.precision)
        return torch.autocast(device.type, dtype, enabled=dtype is not None)

    def prepare(self, objective: nn.Module) -> None:
        """Switch gradient checkpointing on in the model of an objective, if it is asked for."""
        if self.gradient_checkpointing:
            for model in objective.children():
                if isinstance(model, PreTrainedModel):
                    # The later of its two names.
                    later = getattr(model, "activation_checkpointing_enable", None)
                    (later or model.gradient_checkpointing_enable)()
