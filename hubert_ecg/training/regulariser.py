"""The dynamic regulariser of the paper: more weight decay and dropout while validations get worse, less when better."""

from dataclasses import dataclass
from typing import Any

import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.dropouts import read_dropouts, set_dropouts

MAX_DROPOUT = 0.95
UNTOUCHED = "feature_projection"
"""The dropout before the encoder, which the paper's models pre-train without."""


@dataclass(frozen=True, kw_only=True)
class RegulariserConfig:
    """Regularise more while validations get worse."""

    dynamic: bool = False
    """At every (patience // intervals)-th validation in a row without a lower loss (but not the last that patience
    allows) multiply weight decay and raise dropouts; undo one such step at every validation that is better."""
    intervals: int = 4
    """Parts of the patience at whose ends regularisation grows; the paper takes 4 in pre-training, 3 in fine-tuning."""
    weight_decay_factor: float = 5.0
    """Factor of the weight decay."""
    dropout_step: float = 0.05
    """What is added to the dropouts of attention, activations, hidden states and head."""
    min_weight_decay: float = 0.01
    """Weight decay is not divided below this, or below its setting where that is lower."""
    min_dropout: float = 0.1
    """Dropouts are not lowered below this, or below their setting where that is lower."""

    def __post_init__(self) -> None:
        if self.intervals < 1 or self.weight_decay_factor < 1 or not 0 <= self.dropout_step < 1:
            raise ConfigError(
                f"--regulariser: wanted intervals and weight_decay_factor of at least 1 and a dropout_step in [0, 1), "
                f"got {self.intervals}, {self.weight_decay_factor} and {self.dropout_step}"
            )

    def check(self, patience: int) -> None:
        """ConfigError where the patience is too short to be divided."""
        if self.dynamic and patience < self.intervals:
            raise ConfigError(
                f"--regulariser.dynamic: wanted a --patience of at least --regulariser.intervals {self.intervals} "
                f"validations, got {patience}"
            )


class DynamicRegulariser:
    """Adjusts an optimiser's weight decay and a model's dropouts; the model's configuration keeps what was set."""

    def __init__(
        self, config: RegulariserConfig, *, patience: int, model: torch.nn.Module, optimiser: torch.optim.Optimizer
    ) -> None:
        self.config, self.model, self.optimiser = config, model, optimiser
        self.patience, self.every = patience, patience // config.intervals
        self.least_dropouts = {kind: min(p, config.min_dropout) for kind, p in self._dropouts().items()}
        self.least_decays = [min(group["weight_decay"], config.min_weight_decay) for group in optimiser.param_groups]

    def validated(self, improved: bool, stale_validations: int) -> None:
        """After a validation: whether it was better, and the number of them in a row without a lower loss."""
        if improved:
            self._change(1 / self.config.weight_decay_factor, -self.config.dropout_step)
        elif stale_validations % self.every == 0 and stale_validations != self.patience:
            self._change(self.config.weight_decay_factor, self.config.dropout_step)

    def _change(self, factor: float, step: float) -> None:
        for group, least in zip(self.optimiser.param_groups, self.least_decays, strict=True):
            group["weight_decay"] = max(group["weight_decay"] * factor, least)
        values = {kind: max(p + step, self.least_dropouts[kind]) for kind, p in self._dropouts().items()}
        set_dropouts(self.model, {kind: min(value, MAX_DROPOUT) for kind, value in values.items()})

    def _dropouts(self) -> dict[str, float]:
        return {kind: p for kind, p in read_dropouts(self.model).items() if kind != UNTOUCHED}

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def described(self) -> Any:
        """Weight decay is part of the optimiser's state."""
        return self._dropouts()

    def restore(self, tensors: dict[str, torch.Tensor], described: Any) -> None:
        set_dropouts(self.model, described)
