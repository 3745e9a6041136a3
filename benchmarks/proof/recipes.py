"""What a recipe is, and those that are compared, by name; each states no more than how it differs from the baseline."""

from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.proof.augment import Augmentation

Architecture = Literal["resnet", "state_space", "side_by_side", "hubert", "hubert_pretrained"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that shapes a training but its recordings and seed. The defaults are the baseline."""

    architecture: Architecture = "resnet"
    """`hubert`: size `tiny`; `hubert_pretrained`: from a checkpoint of jobs.pretrain, which
    must not have seen the folds that are judged; `side_by_side`: the transformer of `hubert` behind another stem."""
    width: int = 128
    """Of the state-space layers."""
    depth: int = 4
    """State-space layers."""
    dropout: float = 0.1
    """In state-space layers and before the head of either architecture."""
    epochs: int = 30
    lr: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    batch_size: int = 64
    crop_s: float = 2.5
    scaled: bool = False
    """Read each lead scaled to -1 to 1 over its record, instead of mV."""
    auxiliary: float = 0.0
    """Weight of the auxiliary loss: every SCP statement, sex and age, of the same recordings; 0: none."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def pretrained(self) -> bool:
        return self.architecture == "hubert_pretrained"


_CHANGED = Augmentation(mixup=0.3, rotation_deg=8, gain=0.1, lead_dropout=0.05)
_FULL = Recipe(auxiliary=1.0, augmentation=_CHANGED)
_STATE_SPACE = replace(_FULL, architecture="state_space", lr=2e-3, weight_decay=0.05)
_HUBERT_VOLTAGE = replace(_FULL, architecture="hubert", crop_s=5.0, lr=1e-3, epochs=15)
_HUBERT_VOLTAGE_FAST = replace(_HUBERT_VOLTAGE, lr=3e-3)
RECIPES = {
    "resnet": Recipe(),
    # The baseline's own trials: what its author would try first.
    "resnet_slow": Recipe(lr=1e-3),
    "resnet_long": Recipe(epochs=60),
    "resnet_decay": Recipe(weight_decay=0.1),
    # The same network with more to learn from.
    "resnet_auxiliary": Recipe(auxiliary=1.0),
    "resnet_augment": Recipe(augmentation=_CHANGED),
    "resnet_auxiliary_augment": _FULL,
    "state_space_auxiliary_augment": _STATE_SPACE,
    # HuBERT's transformer, but leads side by side, as all those above read them.
    "side_by_side_auxiliary_augment": replace(_STATE_SPACE, architecture="side_by_side", lr=1e-3),
    # HuBERT, size tiny, by the same schedule in half as many epochs: of twice as long crops, at nearly the same cost.
    "hubert_voltage_auxiliary_augment": _HUBERT_VOLTAGE,
    "hubert_voltage_auxiliary_augment_fast": _HUBERT_VOLTAGE_FAST,
    "hubert_voltage_pretrained_auxiliary_augment_fast": replace(_HUBERT_VOLTAGE_FAST, architecture="hubert_pretrained"),
    # Each lead scaled by itself, as published; turning the heart's axis means nothing then.
    "hubert_pretrained_auxiliary_augment_fast": replace(
        _HUBERT_VOLTAGE_FAST,
        architecture="hubert_pretrained",
        scaled=True,
        augmentation=replace(_CHANGED, rotation_deg=0.0),
    ),
    # What reading the leads side by side brings by itself: all else is as in the two of HuBERT from random weights.
    "side_by_side_as_hubert_auxiliary_augment": replace(_HUBERT_VOLTAGE, architecture="side_by_side"),
    "side_by_side_as_hubert_auxiliary_augment_fast": replace(_HUBERT_VOLTAGE_FAST, architecture="side_by_side"),
}
