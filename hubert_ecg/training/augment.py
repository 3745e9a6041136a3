"""Random changes of training examples: mixup, turned hearts, gain, noise, and leads that are taken away.

All randomness comes from a generator that the caller has seeded for the example, so that the same example comes out
in any process, after any interruption. Shapes: L leads, S samples of a lead.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.dipole import turning_matrices
from hubert_ecg.errors import ConfigError

NUM_LEADS = 12


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training recordings; validation sees them as they are. In the order of the fields."""

    rotation_deg: float = 0.0
    """Standard deviation of the angle by which the heart's dipole is turned about a random axis; a recording that lacks
    anything stays as it is. Wants waveforms whose leads have kept their voltage (jobs.prepare --range_mv). 0: none."""
    recording_gain: float = 0.0
    """All leads are multiplied by the same factor, drawn from 1 - recording_gain to 1 + recording_gain; 0: none."""
    gain: float = 0.0
    """Every lead is multiplied by a factor of its own, drawn from 1 - gain to 1 + gain; 0: none."""
    noise: float = 0.0
    """Standard deviation of white noise that is added where something was recorded. A lead spans -1 to 1; 0: none."""
    lead_dropout: float = 0.0
    """Probability that a lead is treated as missing: zero, and not attended to by the model, so that its codes are not
    learned either. A recording of which nothing would be left stays whole; 0: none."""

    def __post_init__(self) -> None:
        for name in ("recording_gain", "gain", "lead_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"--augment.{name}: wanted a number in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.rotation_deg <= 90:
            raise ConfigError(f"--augment.rotation_deg: wanted an angle from 0 to 90, got {self.rotation_deg}")
        if self.noise < 0:
            raise ConfigError(f"--augment.noise: wanted a standard deviation of at least 0, got {self.noise}")

    @property
    def changes_anything(self) -> bool:
        return bool(self.rotation_deg or self.recording_gain or self.gain or self.noise or self.lead_dropout)

    def apply(
        self,
        samples: np.ndarray,
        mask: np.ndarray | None,
        rng: np.random.Generator,
        attends: Callable[[np.ndarray], bool],
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Model input [L * S] float32 and its attention mask [L * S] bool, None where all counts -> the same, changed.

        `attends` tells whether a mask leaves the model anything to attend to.
        """
        samples_LS = samples.reshape(NUM_LEADS, -1).copy()
        mask_LS = None if mask is None else mask.reshape(NUM_LEADS, -1)
        if self.rotation_deg and mask_LS is None:
            axis, angle_deg = rng.standard_normal(3), self.rotation_deg * rng.standard_normal()
            rotation_rad = np.deg2rad(angle_deg) * axis / np.linalg.norm(axis)
            samples_LS = turning_matrices(rotation_rad[None])[0] @ samples_LS
        if self.recording_gain:
            samples_LS *= np.float32(rng.uniform(1 - self.recording_gain, 1 + self.recording_gain))
        if self.gain:
            samples_LS *= rng.uniform(1 - self.gain, 1 + self.gain, (NUM_LEADS, 1)).astype(np.float32)
        if self.noise:
            noise_LS = rng.normal(0, self.noise, samples_LS.shape).astype(np.float32)
            samples_LS += noise_LS if mask_LS is None else np.where(mask_LS, noise_LS, 0)
        if self.lead_dropout:
            dropped = rng.random(NUM_LEADS) < self.lead_dropout
            left_LS = np.ones(samples_LS.shape, bool) if mask_LS is None else mask_LS.copy()
            left_LS[dropped] = False
            if dropped.any() and attends(left_LS.reshape(-1)):
                samples_LS[dropped], mask_LS = 0, left_LS
        return samples_LS.reshape(-1), None if mask_LS is None else mask_LS.reshape(-1)


@dataclass(frozen=True, kw_only=True)
class LabelledAugmentConfig(AugmentConfig):
    """Random changes of training recordings; validation sees them as they are."""

    mixup: float = 0.0
    """Mix each recording with another one of its shard, and their labels likewise (Zhang et al. 2018): a share drawn
    from Beta(mixup, mixup) of the one, the rest of the other; comes before the other changes. 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mixup >= 0:
            raise ConfigError(f"--augment.mixup: wanted a parameter of at least 0, got {self.mixup}")

    @property
    def changes_anything(self) -> bool:
        return bool(self.mixup) or super().changes_anything


def mix(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """`share` of the first and the rest of the second, float32."""
    mixed: np.ndarray = first * np.float32(share) + second * np.float32(1 - share)
    return mixed


def union(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """The attention mask of a mixture: samples that count in either recording; None where all do."""
    if first is None or second is None:
        return None
    either: np.ndarray = first | second
    return either
