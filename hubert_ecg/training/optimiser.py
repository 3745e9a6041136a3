"""AdamW, its parameter groups, and the learning-rate schedule of the paper: linear warm-up, then linear decay."""

from dataclasses import dataclass

import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.adapt import parameter_groups


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with linear warm-up and linear decay to zero."""

    lr: float = 5e-5
    """Peak learning rate."""
    beta1: float = 0.9
    """Decay of the running mean of the gradient."""
    beta2: float = 0.98
    """Decay of the running mean of its square."""
    eps: float = 1e-9
    """Added to the denominator."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on matrices and kernels only."""
    warmup_share: float = 0.08
    """Share of all steps in which the learning rate rises from 0."""
    layer_decay: float = 1.0
    """Learning rate of each encoder layer, as a share of that of the layer above it; the head has the full rate."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this L2 norm; 0 leaves them as they are."""
    ema_decay: float = 0.0
    """Decay per step of a running mean of the weights, 0.999 say, which is then what is validated and saved; the mean
    follows more closely in the first steps. 0: none, the weights themselves are."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ConfigError(f"--optimiser.lr: wanted a learning rate above 0, got {self.lr}")
        if not 0 <= self.warmup_share < 1:
            raise ConfigError(f"--optimiser.warmup_share: wanted a share in [0, 1), got {self.warmup_share}")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"--optimiser.layer_decay: wanted a share in (0, 1], got {self.layer_decay}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"--optimiser.ema_decay: wanted a decay in [0, 1), got {self.ema_decay}")
        if self.clip_norm < 0 or self.weight_decay < 0:
            raise ConfigError("--optimiser: wanted clip_norm and weight_decay of at least 0")


def make_optimiser(module: torch.nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that require a gradient; vectors (biases, norms) get no weight decay."""
    groups = parameter_groups(module, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)


def learning_rate(step: int, *, steps: int, config: OptimiserConfig) -> float:
    """The rate of 0-based step `step` of `steps`: (step + 1) / warm-up steps of the peak, then linear down to 0."""
    warmup = round(config.warmup_share * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * (steps - step) / (steps - warmup)
