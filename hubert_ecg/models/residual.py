"""An encoder that reads the 12 leads side by side: a plain one-dimensional residual network.

He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016; in one dimension, on time series, since
Wang, Yan and Oates, IJCNN 2017. Like the state-space encoder it has no tokens that codes could name: it is for
classifiers that are trained from random weights.

Batch norm stands after every convolution. In training it takes the statistics of the recordings that go through the
network together, which are those of one worker's share of a step, or of a piece of it; afterwards running means of
them. Those of frozen layers go on following the data.

Shapes: B recordings, L leads, S samples of a lead, T steps, C channels, D hidden size.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.errors import ConfigError
from hubert_ecg.models.config import HubertECGConfig
from hubert_ecg.models.cpu import tune_for_cpu
from hubert_ecg.models.side_by_side import leads_that_count, side_by_side, steps_that_count

NUM_LEADS = len(STANDARD_LEADS)
KERNEL = 5
"""Width of the blocks' convolutions."""
UNIT_MV = 5.0
"""What leads are multiplied by: they come in units of 5 mV (jobs.prepare --range_mv 5). In millivolts the first
convolution is to grow as far, in the optimiser's steps, as the others are."""


class ResidualEncoder(nn.Module):
    """12-lead ECG in, one vector per step of all leads out."""

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        if config.hidden_size != config.block_dim[-1] or config.num_hidden_layers != len(config.block_dim):
            raise ConfigError(
                f"model configuration: wanted block_dim with num_hidden_layers entries, the last of them hidden_size, "
                f"got {list(config.block_dim)}, {config.num_hidden_layers} and {config.hidden_size}"
            )
        self.config = config
        self.feature_extractor = Stem(config)
        self.encoder = Blocks(config)
        # Every checkpoint holds a mask token; here nothing reads it.
        self.masked_spec_embed = nn.Parameter(torch.zeros(config.hidden_size))
        tune_for_cpu(self)

    def encode(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Vectors of every step [B, T, D]; arguments as in `HubertECGEncoder.encode`.

        Samples that do not count are read as zero. Hidden states are those of the stem and of every block, each with
        its own number of steps and channels. Raises ValueError for `mask_time_indices`: there are no codes to predict.
        """
        if mask_time_indices is not None:
            raise ValueError("mask_time_indices: wanted none, a residual encoder does not predict masked tokens")
        hidden_BCT = self.feature_extractor(leads_that_count(input_values, attention_mask))
        hidden_states = [hidden_BCT.transpose(1, 2)]
        for block in self.encoder.layers:
            hidden_BCT = block(hidden_BCT)
            hidden_states.append(hidden_BCT.transpose(1, 2))
        return BaseModelOutput(
            last_hidden_state=hidden_states[-1],
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )

    def token_mask(self, attention_mask: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Which steps count under a mask over samples: those in which any lead has half of its samples.

        [B, L, S] or [B, L * S] -> [B, T] bool. `num_tokens` may be the number of steps that a block before the last
        gives.
        """
        samples = side_by_side(attention_mask).shape[2]
        strides = [block.stride for block in self.encoder.layers]
        of_block = [math.prod([*self.config.conv_stride, *strides[:count]]) for count in range(1, len(strides) + 1)]
        fitting = [stride for stride in of_block if -(-samples // stride) == num_tokens]
        return steps_that_count(attention_mask, num_tokens, fitting[-1] if fitting else of_block[-1])


class Stem(nn.Module):
    """A wide convolution over all leads at once. [B, L, S] -> [B, C, T]."""

    _requires_grad = True

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        [width], [kernel], [stride] = config.conv_dim, config.conv_kernel, config.conv_stride
        convolution = nn.Conv1d(NUM_LEADS, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.conv_layers = nn.ModuleList([convolution])
        self.norm = nn.BatchNorm1d(width)

    def forward(self, leads_BLS: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv_layers[0](UNIT_MV * leads_BLS)))


class Blocks(nn.Module):
    """The residual blocks; each but the first halves the rate."""

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        ins = (config.conv_dim[-1], *config.block_dim)
        self.layers = nn.ModuleList(
            Block(narrow, wide, stride=2 if place else 1)
            for place, (narrow, wide) in enumerate(zip(ins, config.block_dim, strict=False))
        )


class Block(nn.Module):
    """Two convolutions beside a shortcut. [B, C, T] -> [B, C', T / stride]."""

    def __init__(self, ins: int, outs: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv1d(ins, outs, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        self.second = nn.Conv1d(outs, outs, KERNEL, padding=KERNEL // 2, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm1d(outs), nn.BatchNorm1d(outs)])
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or ins != outs:
            self.shortcut = nn.Sequential(nn.Conv1d(ins, outs, 1, stride=stride, bias=False), nn.BatchNorm1d(outs))

    def forward(self, x_BCT: torch.Tensor) -> torch.Tensor:
        inner_BCT = functional.relu(self.norms[0](self.first(x_BCT)))
        return functional.relu(self.norms[1](self.second(inner_BCT)) + self.shortcut(x_BCT))
