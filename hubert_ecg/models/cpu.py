"""Forms of two layers that are faster on a CPU: linear layers through oneDNN, dropout from fewer random bits.

They compute what torch's own layers compute, have their weights and their names, and step aside on other devices and
where a graph is being exported or compiled. Measured by benchmarks/model.py.
"""

import torch
from torch import nn
from torch.nn import functional

_STEPS = 1 << 16
"""Dropout probabilities are rounded to a multiple of 1 / 65536."""


class OneDnnLinear(nn.Linear):
    """A linear layer whose float32 product is left to oneDNN.

    Torch hands float32 matrix products to MKL, but convolutions to oneDNN. With AVX512 on processors of other makers
    MKL reaches half of oneDNN's speed; with AVX2 the two are even on one thread, and MKL is ahead on several. A
    convolution of width 1 over channels-last input is the same product, nothing is copied.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if values.dtype != torch.float32 or not (values.numel() and tuned(values)) or torch.is_autocast_enabled("cpu"):
            return super().forward(values)
        image = values.reshape(1, -1, 1, self.in_features).permute(0, 3, 1, 2)
        products = functional.conv2d(image, self.weight[:, :, None, None], self.bias)
        return products.permute(0, 2, 3, 1).reshape(*values.shape[:-1], self.out_features)


class QuickDropout(nn.Dropout):
    """Dropout that spends 16 random bits on a number, from torch's generator, where torch's own spends 64."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        dropped = round(self.p * _STEPS)
        if not self.training or not 0 < dropped < _STEPS or not tuned(values):
            return super().forward(values)
        words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        bits = words.view(torch.int16)[: values.numel()].view(values.shape)
        return values.masked_fill(bits < dropped - _STEPS // 2, 0) * (_STEPS / (_STEPS - dropped))


def tuned(values: torch.Tensor) -> bool:
    """Whether the forms of this module apply to these values."""
    if torch.compiler.is_compiling():  # Compilers fuse these layers by themselves.
        return False
    return values.device.type == "cpu" and torch.backends.mkldnn.is_available()


def wide_vectors() -> bool:
    """Whether torch computes with vectors of 512 bits here."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def tune_for_cpu(module: nn.Module) -> None:
    """Give the linear and dropout layers below `module` their CPU forms, in place; weights and names stay.

    Linear layers keep torch's form where vectors are not wide enough for the other to be faster.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear and wide_vectors():
            layer.__class__ = OneDnnLinear
        elif type(layer) is nn.Dropout:
            layer.__class__ = QuickDropout
