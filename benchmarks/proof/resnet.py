"""The baseline: a plain one-dimensional residual network (He et al. 2016), as used on ECGs since Wang et al. 2017.

Shapes: B recordings, C channels, T samples, D features.
"""

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (64, 128, 128, 160)
"""Channels of its blocks; each but the first halves the rate. 0.6 million weights."""
KERNEL = 5


class ResNet(nn.Module):
    """12 leads in, one vector out: the mean over time of the last block."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.features = widths[-1]
        stem = (nn.Conv1d(12, widths[0], 7, stride=2, padding=3, bias=False), nn.BatchNorm1d(widths[0]), nn.ReLU())
        ins = (widths[0], *widths)
        blocks = [Block(ins[i], width, stride=1 if i == 0 else 2) for i, width in enumerate(widths)]
        self.layers = nn.Sequential(*stem, *blocks)

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T] mV -> [B, D]."""
        pooled_BD: torch.Tensor = self.layers(leads_BCT).mean(dim=2)
        return pooled_BD


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, ins: int, outs: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(ins, outs, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        self.second = nn.Conv1d(outs, outs, KERNEL, padding=KERNEL // 2, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm1d(outs), nn.BatchNorm1d(outs)])
        self.shortcut = nn.Identity()
        if stride > 1 or ins != outs:
            self.shortcut = nn.Sequential(nn.Conv1d(ins, outs, 1, stride=stride, bias=False), nn.BatchNorm1d(outs))

    def forward(self, x_BCT: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norms[0](self.first(x_BCT)))
        return functional.relu(self.norms[1](self.second(inner)) + self.shortcut(x_BCT))
