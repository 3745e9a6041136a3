"""The recipes that are compared, by name. What differs from the baseline is all that each states."""

from benchmarks.proof.augment import Augmentation
from benchmarks.proof.training import Recipe

_CHANGED = Augmentation(mixup=0.3, rotation_deg=8, gain=0.1, lead_dropout=0.05)
RECIPES = {
    "resnet": Recipe(),
    "resnet_auxiliary_augment": Recipe(auxiliary=1.0, augmentation=_CHANGED),
    "state_space": Recipe(architecture="state_space", lr=2e-3, weight_decay=0.05),
    "state_space_auxiliary_augment": Recipe(
        architecture="state_space", lr=2e-3, weight_decay=0.05, auxiliary=1.0, augmentation=_CHANGED
    ),
}
