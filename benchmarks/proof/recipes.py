"""The recipes that are compared, by name. What differs from the baseline is all that each states."""

from dataclasses import replace

from benchmarks.proof.augment import Augmentation
from benchmarks.proof.training import Recipe

_CHANGED = Augmentation(mixup=0.3, rotation_deg=8, gain=0.1, lead_dropout=0.05)
_STATE_SPACE = Recipe(architecture="state_space", lr=2e-3, weight_decay=0.05)
_FULL = replace(_STATE_SPACE, auxiliary=1.0, augmentation=_CHANGED)
_HUBERT = Recipe(architecture="hubert", scaled=True, crop_s=5.0, lr=1e-3, epochs=15)
RECIPES = {
    "resnet": Recipe(),
    # The baseline's own trials: what its author would try first.
    "resnet_slow": Recipe(lr=1e-3),
    "resnet_long": Recipe(epochs=60),
    "resnet_decay": Recipe(weight_decay=0.1),
    # The same network with more to learn from.
    "resnet_auxiliary": Recipe(auxiliary=1.0),
    "resnet_augment": Recipe(augmentation=_CHANGED),
    "resnet_auxiliary_augment": Recipe(auxiliary=1.0, augmentation=_CHANGED),
    "resnet_auxiliary_augment_long": Recipe(auxiliary=1.0, augmentation=_CHANGED, epochs=60),
    "state_space_auxiliary_augment": _FULL,
    # The same without one part.
    "state_space": _STATE_SPACE,
    "state_space_augment": replace(_FULL, auxiliary=0.0),
    "state_space_auxiliary": replace(_STATE_SPACE, auxiliary=1.0),
    "state_space_scaled": replace(_FULL, scaled=True, augmentation=replace(_CHANGED, rotation_deg=0.0)),
    # HuBERT, size tiny, by the same schedule in half as many epochs: of twice as long crops, at the same cost.
    "hubert": _HUBERT,
    "hubert_pretrained": replace(_HUBERT, architecture="hubert_pretrained"),
    "hubert_pretrained_auxiliary_augment": replace(
        _HUBERT, architecture="hubert_pretrained", auxiliary=1.0, augmentation=replace(_CHANGED, rotation_deg=0.0)
    ),
}
