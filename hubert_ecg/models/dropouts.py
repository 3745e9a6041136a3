"""The dropouts of a model by what they drop: read, set for a time, and configured for good."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from hubert_ecg.errors import ConfigError

_LAYER = r"(^|.*\.)encoder\.layers\.\d+\."
_PLACES = {
    "hidden": rf"(^|.*\.)encoder\.dropout|{_LAYER}dropout|{_LAYER}feed_forward\.output_dropout",
    "attention": rf"{_LAYER}attention",
    "activation": rf"{_LAYER}feed_forward\.intermediate_dropout",
    "feature_projection": r"(^|.*\.)feature_projection\.dropout",
    "classifier": r"dropout",
}
"""Kind of dropout -> names of the modules that do it."""
_SETTINGS = {
    "hidden": "hidden_dropout",
    "attention": "attention_dropout",
    "activation": "activation_dropout",
    "feature_projection": "feat_proj_dropout",
    "classifier": "final_dropout",
    "layerdrop": "layerdrop",
}
"""Field of DropoutConfig -> field of a model's configuration."""


@dataclass(frozen=True, kw_only=True)
class DropoutConfig:
    """Shares that are dropped at random in training; without a value those of the model's size or checkpoint."""

    hidden: float | None = None
    """Of hidden states: after attention, after feed-forward blocks, and before the first layer."""
    attention: float | None = None
    """Of attention weights."""
    activation: float | None = None
    """Inside feed-forward blocks."""
    feature_projection: float | None = None
    """Of the features that enter the encoder."""
    layerdrop: float | None = None
    """Probability that an encoder layer is left out of a training step."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if not 0 <= value < 1:
                raise ConfigError(f"--dropouts.{name}: wanted a share in [0, 1), got {value}")

    def given(self) -> dict[str, float]:
        """Those that have a value."""
        values = {name: getattr(self, name, None) for name in _SETTINGS}
        return {name: value for name, value in values.items() if value is not None}

    def configure(self, model: Any) -> None:
        """Set them in a model and in its configuration, which is saved with it."""
        for name, value in self.given().items():
            setattr(model.config, _SETTINGS[name], value)
        set_dropouts(model, {name: value for name, value in self.given().items() if name in _PLACES})


@dataclass(frozen=True, kw_only=True)
class ClassifierDropoutConfig(DropoutConfig):
    """Shares that are dropped at random in training; without a value those of the model's size or checkpoint."""

    classifier: float | None = None
    """Of the mean over tokens, before the classification head."""


def read_dropouts(model: nn.Module) -> dict[str, float]:
    """Kind of dropout -> its probability, of those kinds that the model has."""
    found: dict[str, float] = {}
    for kind, place in _modules(model):
        found[kind] = place.p if isinstance(place, nn.Dropout) else place.dropout
    return found


def set_dropouts(model: nn.Module, values: dict[str, float]) -> None:
    """Set the probabilities of some kinds in the modules; the model's configuration stays as it is."""
    for kind, place in _modules(model):
        if kind in values:
            setattr(place, "p" if isinstance(place, nn.Dropout) else "dropout", values[kind])


def _modules(model: nn.Module) -> list[tuple[str, Any]]:
    return [
        (kind, module)
        for name, module in model.named_modules()
        for kind, pattern in _PLACES.items()
        if re.fullmatch(pattern, name)
    ]
