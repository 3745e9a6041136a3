"""Random changes of a batch of crops: turned hearts, gains, silent leads, noise, and mixtures of two recordings.

Shapes: B crops, C = 12 leads, T samples, L targets.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from hubert_ecg.ecg.dipole import turning_matrices


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may change; nothing by default."""

    rotation_deg: float = 0.0
    """Standard deviation of the angle by which the heart's dipole is turned about a random axis. What the dipole does
    not explain of a lead stays."""
    gain: float = 0.0
    """The whole recording is multiplied by a factor from 1 - gain to 1 + gain."""
    lead_dropout: float = 0.0
    """Probability that a lead is zero."""
    noise_mv: float = 0.0
    """Standard deviation of white noise."""
    mixup: float = 0.0
    """Each crop is mixed with another one of its batch, and the targets alike (Zhang et al. 2018): the larger share is
    drawn from Beta(mixup, mixup)."""

    def apply(
        self, leads_BCT: torch.Tensor, targets_BL: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Changed crops and targets."""
        size = len(leads_BCT)
        if self.rotation_deg:
            leads_BCT = _turned(leads_BCT, self.rotation_deg, generator)
        if self.gain:
            leads_BCT = leads_BCT * (1 + self.gain * (2 * torch.rand(size, 1, 1, generator=generator) - 1))
        if self.noise_mv:
            leads_BCT = leads_BCT + self.noise_mv * torch.randn(leads_BCT.shape, generator=generator)
        if self.lead_dropout:
            leads_BCT = leads_BCT * (torch.rand(size, 12, 1, generator=generator) >= self.lead_dropout)
        if self.mixup:
            drawn = torch._sample_dirichlet(torch.full((size, 2), self.mixup), generator=generator)
            share = drawn.max(dim=1).values
            other = torch.randperm(size, generator=generator)
            leads_BCT = torch.lerp(leads_BCT[other], leads_BCT, share[:, None, None])
            targets_BL = torch.lerp(targets_BL[other], targets_BL, share[:, None])
        return leads_BCT, targets_BL


def _turned(leads_BCT: torch.Tensor, angle_deg: float, generator: torch.Generator) -> torch.Tensor:
    axes = functional.normalize(torch.randn(len(leads_BCT), 3, generator=generator), dim=1)
    angles = torch.deg2rad(angle_deg * torch.randn(len(leads_BCT), 1, generator=generator))
    return torch.from_numpy(turning_matrices((axes * angles).numpy())) @ leads_BCT
