"""Leads side by side instead of one after the other, and which steps of such an encoder count under a mask.

Shapes: B recordings, L leads, S samples of a lead, T steps.
"""

import torch
from torch.nn import functional

from hubert_ecg.ecg.leads import STANDARD_LEADS


def side_by_side(values: torch.Tensor) -> torch.Tensor:
    """[B, L, S] as it is, [B, L * S] cut into leads."""
    return values if values.ndim == 3 else values.unflatten(1, (len(STANDARD_LEADS), -1))


def leads_that_count(values: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The leads [B, L, S], zero where a mask over samples, of the shape of the values, says that they do not count."""
    leads_BLS = side_by_side(values)
    if attention_mask is None:
        return leads_BLS
    return leads_BLS * side_by_side(attention_mask).to(leads_BLS.dtype)


def steps_that_count(attention_mask: torch.Tensor, num_steps: int, stride: int) -> torch.Tensor:
    """Those steps of `stride` samples in which any lead has half of its samples; the last may reach beyond the lead.

    [B, L, S] or [B, L * S] -> [B, T] bool.
    """
    mask_BLS = side_by_side(attention_mask).float()
    padded = functional.pad(mask_BLS, (0, num_steps * stride - mask_BLS.shape[2]))
    counts_BT: torch.Tensor = (functional.avg_pool1d(padded, stride) >= 0.5).any(dim=1)
    return counts_BT
