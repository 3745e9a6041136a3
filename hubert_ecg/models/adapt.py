"""Ways to fine-tune less than all of a classifier alike: learning rates by depth, and low-rank adaptation (LoRA).

What is frozen is `HubertECGClassifier.set_trainable`'s business; both functions here leave frozen weights out.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from hubert_ecg.errors import CheckpointError, ConfigError
from hubert_ecg.models.classifier import HubertECGClassifier

LoraTarget = Literal["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021): frozen weights W learn a sum W + alpha / rank * B A beside them."""

    rank: int = 0
    """Rank of the learnt sums; 0 trains the weights themselves."""
    alpha: int = 16
    """Scale of the sums, before it is divided by the rank."""
    dropout: float = 0.0
    """Dropout of the input of the sums."""
    targets: tuple[LoraTarget, ...] = ("q_proj", "v_proj")
    """Linear layers of every encoder layer that get a sum."""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"--lora: wanted rank of at least 0, alpha above 0 and dropout in [0, 1), "
                f"got {self.rank}, {self.alpha} and {self.dropout}"
            )
        unknown = sorted(set(self.targets) - set(get_args(LoraTarget)))
        if unknown or not self.targets:
            raise ConfigError(f"--lora.targets: wanted some of {', '.join(get_args(LoraTarget))}, got {self.targets}")


def add_lora(model: HubertECGClassifier, config: LoraConfig) -> None:
    """Put low-rank sums beside the encoder's weights, in place; after this only they and the head train.

    The model computes what it did before, for the sums begin at zero.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    names = "|".join(config.targets)
    settings = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=rf"hubert_ecg\.encoder\.layers\.\d+\.(attention|feed_forward)\.({names})",
    )
    head = [parameter for name, parameter in model.named_parameters() if not name.startswith("hubert_ecg.")]
    inject_adapter_in_model(settings, model)
    for parameter in head:
        parameter.requires_grad_(True)
    # HuBERT's stem otherwise asks for the gradient of its input, which would run the frozen stem backwards.
    model.hubert_ecg.feature_extractor._requires_grad = False


def merge_lora(model: HubertECGClassifier) -> HubertECGClassifier:
    """A copy in which the sums are added to the weights they stand beside: an ordinary classifier, fit to be saved."""
    from peft.tuners.lora import LoraLayer

    merged = copy.deepcopy(model)
    for name, layer in list(merged.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(merged.get_submodule(parent), child, layer.get_base_layer())
    return merged.requires_grad_(True)


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that train, by name: all that a low-rank adaptation must keep to go on later."""
    return {
        name: parameter.detach().to("cpu", copy=True).contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trained_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put back what `trained_weights` gave. Raises CheckpointError unless it is of a model that trains the same."""
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    differing = sorted(
        set(wanted) ^ set(weights) | {n for n in set(wanted) & set(weights) if wanted[n].shape != weights[n].shape}
    )
    if differing:
        raise CheckpointError(
            f"trained weights: wanted those of a model that trains the same, got other ones: "
            f"{', '.join(differing[:8])}; the run was begun with other settings"
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])


_DYNAMICS = ".kernel."
"""In the name of a weight: rates and frequencies of a state-space layer, for which 0 is no natural value."""


def parameter_groups(module: nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Groups for an optimiser: weight decay for matrices and kernels only, and a share `lr_scale` of the rate by depth.

    The head learns at the full rate, the topmost encoder layer too, each layer below at `layer_decay` times the rate of
    the one above it, and all that comes before the layers one step lower still (Clark et al. 2020). Frozen weights are
    in no group.

    Raises ConfigError for a `layer_decay` outside (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"--optimiser.layer_decay: wanted a factor in (0, 1], got {layer_decay}")
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    num_layers = _num_layers([name for name, _ in module.named_parameters()])
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named:
        steps_down = _steps_down(name, num_layers) if layer_decay < 1 else 0
        decays = parameter.ndim > 1 and _DYNAMICS not in name
        group = groups.setdefault(
            (steps_down, not decays),
            {
                "params": [],
                "weight_decay": weight_decay if decays else 0.0,
                "lr_scale": layer_decay**steps_down,
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _num_layers(names: Sequence[str]) -> int:
    return 1 + max((index for name in names if (index := _layer(name)) is not None), default=-1)


def _layer(name: str) -> int | None:
    """Index of the encoder layer that a weight belongs to, if it belongs to one."""
    _, found, rest = f".{name}".partition(".encoder.layers.")
    return int(rest.split(".", 1)[0]) if found else None


def _steps_down(name: str, num_layers: int) -> int:
    """How far below the top a weight lies: 0 for heads and the last layer, the number of layers for what is before."""
    layer = _layer(name)
    if layer is not None:
        return num_layers - 1 - layer
    below = (".feature_extractor.", ".feature_projection.", ".encoder.", ".masked_spec_embed")
    return num_layers if any(part in f".{name}" for part in below) else 0
