"""Random changes of a batch of crops: turned hearts, gains, silent leads, noise, and mixtures of two recordings.

Shapes: B crops, C = 12 leads, T samples, L targets.
"""

from dataclasses import dataclass

import torch

INVERSE_DOWER = (
    (-0.172, -0.074, 0.122, 0.231, 0.239, 0.194, 0.156, -0.010),
    (0.057, -0.019, -0.106, -0.022, 0.041, 0.048, -0.227, 0.887),
    (-0.229, -0.310, -0.246, -0.063, 0.055, 0.108, 0.022, 0.102),
)
"""The vectorcardiogram X, Y, Z from V1 to V6, I and II (Edenbrandt and Pahlm, J Electrocardiol 1988)."""
_COLUMNS = (6, 7, 8, 9, 10, 11, 0, 1)
"""Places of these leads among I, II, III, aVR, aVL, aVF, V1 to V6."""


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
            leads_BCT = turning_matrices(size, self.rotation_deg, generator) @ leads_BCT
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


def turning_matrices(size: int, angle_deg: float, generator: torch.Generator) -> torch.Tensor:
    """[B, 12, 12]: what each lead becomes when the dipole turns, of the 12 leads as they were."""
    to_dipole, to_leads = _projections()
    axes = torch.nn.functional.normalize(torch.randn(size, 3, generator=generator), dim=1)
    angles = torch.deg2rad(angle_deg * torch.randn(size, 1, generator=generator))
    x, y, z = (axes * angles).unbind(dim=1)
    none = torch.zeros_like(x)
    turning = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=1).view(size, 3, 3)
    change = torch.matrix_exp(turning) - torch.eye(3)
    return torch.eye(12) + to_leads @ change @ to_dipole


def _projections() -> tuple[torch.Tensor, torch.Tensor]:
    """[3, 12] from leads to dipole, and [12, 3] back; the limb leads that derive from I and II do so here as well."""
    eight = torch.tensor(INVERSE_DOWER)
    to_dipole = torch.zeros(3, 12)
    to_dipole[:, list(_COLUMNS)] = eight
    to_eight = torch.linalg.pinv(eight)
    to_leads = torch.zeros(12, 3)
    to_leads[list(_COLUMNS)] = to_eight
    one, two = to_leads[0].clone(), to_leads[1].clone()
    to_leads[2:6] = torch.stack([two - one, -(one + two) / 2, one - two / 2, two - one / 2])
    return to_dipole, to_leads
