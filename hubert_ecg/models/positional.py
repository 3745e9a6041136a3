"""The positional convolution of HuBERT, computed in the frequency domain.

Its kernel is as wide as the whole sequence (128 taps, 93 tokens). Convolution libraries treat such a grouped
convolution poorly: on two CPU cores the direct form takes as long as the rest of a small model together. Products of
spectra give the same numbers several times faster. The weights, and their names in a checkpoint, stay as they are.

Shapes: B recordings, T tokens, G groups, C channels of one group, D = G * C, K taps, F frequencies.
"""

import torch
from torch import nn
from transformers.models.hubert.modeling_hubert import HubertPositionalConvEmbedding


class SpectralPositionalConv(nn.Module):
    """Takes the convolution of a HubertPositionalConvEmbedding over and computes what it computes."""

    def __init__(self, direct: HubertPositionalConvEmbedding) -> None:
        super().__init__()
        self.conv = direct.conv
        self.activation = direct.activation

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        if torch.compiler.is_compiling():  # Neither compilers nor exchange formats handle complex numbers.
            position_BDT = conv(hidden_BTD.transpose(1, 2))[..., : hidden_BTD.shape[1]]
            return self.activation(position_BDT).transpose(1, 2)
        position_BDT = correlate(hidden_BTD.transpose(1, 2), conv.weight, groups=conv.groups)
        return self.activation(position_BDT + conv.bias[:, None]).transpose(1, 2)


def correlate(signal_BDT: torch.Tensor, kernel_DCK: torch.Tensor, *, groups: int) -> torch.Tensor:
    """Grouped cross-correlation with K // 2 zeros on the left and as many on the right as keep the length.

    The first T outputs of `conv1d(signal, kernel, padding=K // 2, groups=groups)`, in the signal's dtype; the
    transforms run in float32 (float64 for float64), which have no half-precision form.
    """
    width, length = signal_BDT.shape[1:]
    taps = kernel_DCK.shape[-1]
    lead = taps // 2
    dtype = torch.promote_types(signal_BDT.dtype, torch.float32)
    # With `lead` zeros in front and a transform this long, what wraps around meets only those zeros. Multiples of 32
    # are quick to transform.
    size = -(-max(length + lead, taps) // 32) * 32
    padded_BDT = nn.functional.pad(signal_BDT.to(dtype), (lead, 0))
    signal_BGCF = torch.fft.rfft(padded_BDT, n=size).unflatten(1, (groups, width // groups))
    kernel_GOCF = torch.fft.rfft(kernel_DCK.to(dtype), n=size).unflatten(0, (groups, width // groups))
    product_BGOF = torch.einsum("bgcf,gocf->bgof", signal_BGCF, kernel_GOCF.conj())
    return torch.fft.irfft(product_BGOF.flatten(1, 2), n=size)[..., :length].to(signal_BDT.dtype)
