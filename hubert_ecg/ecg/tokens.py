"""TokenGrid: which samples each token of the model sees; the only place with convolution arithmetic.

The model reads the leads one after the other as a single sequence (12 x 500 samples at 100 Hz) and its convolutional
stem turns that into tokens (93 of them). A token has two spans: its receptive field, all that the stem lets it see, and
its descriptor window, the first `stride` samples of that field. Descriptor windows of successive tokens tile the
sequence without gap or overlap, so descriptors computed on them label the token they belong to, not a neighbour.
"""

from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np

from hubert_ecg.errors import ConfigError, InputError

CONV_STEMS: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    50: ((10, 3, 3, 2), (4, 2, 2, 2)),
    100: ((10, 3, 3, 2, 2), (4, 2, 2, 2, 2)),
    500: ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)),
}
"""Sampling rate in Hz -> (kernel widths, strides) of the convolutional stem, first layer first."""


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """The map between samples of the concatenated leads and tokens, for one stem of unpadded convolutions."""

    kernels: tuple[int, ...]
    """Width of each convolution in samples of its own input, first layer first."""
    strides: tuple[int, ...]
    """Stride of each convolution, first layer first."""

    def __post_init__(self) -> None:
        if not self.kernels or len(self.kernels) != len(self.strides) or min(self.kernels + self.strides) < 1:
            raise ConfigError(
                f"token grid: wanted one positive stride per positive kernel, "
                f"got kernels {self.kernels} and strides {self.strides}"
            )

    @classmethod
    def at_rate(cls, sampling_rate_hz: int) -> Self:
        """The grid of the stem for this rate. Raises ConfigError for a rate that has none."""
        if sampling_rate_hz not in CONV_STEMS:
            raise ConfigError(f"token grid: wanted a rate of {sorted(CONV_STEMS)} Hz, got {sampling_rate_hz} Hz")
        kernels, strides = CONV_STEMS[sampling_rate_hz]
        return cls(kernels=kernels, strides=strides)

    @property
    def stride(self) -> int:
        """Samples from one token to the next, which is also the width of a descriptor window."""
        return prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """Samples that one token sees; at least `stride` for every stem in CONV_STEMS."""
        field, step = 1, 1
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            field += (kernel - 1) * step
            step *= stride
        return field

    def num_tokens(self, num_samples: int) -> int:
        """Tokens that the stem makes of a sequence of `num_samples` samples; 0 when it is shorter than one field."""
        return max(0, (num_samples - self.receptive_field) // self.stride + 1)

    def window(self, token: int) -> tuple[int, int]:
        """Descriptor window of a token as (start, stop) samples of the concatenated leads."""
        return token * self.stride, (token + 1) * self.stride

    def field(self, token: int) -> tuple[int, int]:
        """Receptive field of a token as (start, stop) samples of the concatenated leads."""
        return token * self.stride, token * self.stride + self.receptive_field

    def windows(self, inputs: np.ndarray) -> np.ndarray:
        """Descriptor windows of all tokens. [..., sample] -> view [..., token, stride], nothing copied if contiguous.

        Raises InputError when the sequence is too short for one token.
        """
        num_tokens = self.num_tokens(inputs.shape[-1])
        if num_tokens == 0:
            raise InputError(
                f"model input: wanted at least {self.receptive_field} samples for one token, got {inputs.shape[-1]}"
            )
        used = inputs[..., : num_tokens * self.stride]
        return used.reshape(*inputs.shape[:-1], num_tokens, self.stride)

    def lead_of_token(self, samples_per_lead: int, num_leads: int = 12) -> np.ndarray:
        """[token] int: the lead that holds most of each token's descriptor window.

        A window that is split evenly counts for the later lead, which also holds the rest of its receptive field.
        """
        num_tokens = self.num_tokens(samples_per_lead * num_leads)
        centres = np.arange(num_tokens) * self.stride + self.stride // 2
        return centres // samples_per_lead
