"""Which tokens pre-training hides: random spans, from a seeded generator, for a whole batch at once.

Shapes: B recordings, T tokens, S possible starts of a span.
"""

import torch
from torch.nn import functional

from hubert_ecg.errors import ConfigError


def mask_tokens(
    batch: int, num_tokens: int, probability: float, length: int, min_masks: int, generator: torch.Generator
) -> torch.Tensor:
    """Hide spans of `length` tokens in each of `batch` recordings. Returns [B, T] bool on the generator's device.

    A recording gets probability * T / length spans, rounded up or down at random so that the expectation holds, but at
    least `min_masks` and at most as many as fit; their starts are distinct. Spans may overlap, so that for lengths
    above 1 `probability` is an upper bound of the share. These are the counts of wav2vec 2.0 (Baevski et al. 2020) as
    transformers draws them, except that each recording is rounded for itself. Nothing is copied between devices.

    Raises ConfigError for a probability outside [0, 1], or a length that no span or not one span of fits.
    """
    if not 0 <= probability <= 1:
        raise ConfigError(f"mask probability: wanted 0 to 1, got {probability}")
    if not 1 <= length <= num_tokens:
        raise ConfigError(f"mask length: wanted 1 to {num_tokens} tokens, which the model's input has, got {length}")
    num_starts = num_tokens - length + 1
    rounding_B1 = torch.rand(batch, 1, generator=generator, device=generator.device)
    spans_B1 = (probability * num_tokens / length + rounding_B1).floor()
    spans_B1 = spans_B1.clamp(min=min_masks).clamp(max=min(num_tokens // length, num_starts))
    order_BS = torch.rand(batch, num_starts, generator=generator, device=generator.device).argsort(dim=1)
    # The inverse of a random permutation is one too: start s is taken when its rank is among the first `spans`.
    starts_BS = order_BS < spans_B1
    if length == 1:
        return starts_BS
    reach = length - 1
    return functional.max_pool1d(functional.pad(starts_BS.float(), (reach, reach)), length, stride=1) > 0
