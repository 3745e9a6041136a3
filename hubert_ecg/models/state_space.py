"""An encoder that reads the 12 leads side by side: a convolutional stem and diagonal state-space layers (S4D).

Gu, Gupta, Goel and Ré, On the Parameterization and Initialization of Diagonal State Space Models, NeurIPS 2022; read in
both directions of time. A state-space layer is a convolution as long as the sequence, whose kernel a small linear
dynamical system generates. At the lengths that matter here (some hundred steps) a product with the kernel's Toeplitz
matrix, one per channel, costs a CPU less than the Fourier transforms that long sequences need.

HuBERT's encoder sees the leads one after the other, and cuts each into tokens of 640 ms that codes can name; this one
has a step of 40 ms for all leads together. So it has no codes to predict: it is for classifiers that are trained from
random weights, and outside of it everything is as for HuBERT's encoder.

Shapes: B recordings, L leads, S samples of a lead, T steps, D hidden size, N states.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.models.config import HubertECGConfig
from hubert_ecg.models.cpu import tune_for_cpu
from hubert_ecg.models.side_by_side import leads_that_count, steps_that_count

NUM_LEADS = len(STANDARD_LEADS)
FIRST_GAIN = 8.0
"""What the first convolution's weights begin with, beside those of later ones: in units of 5 mV leads are small
numbers, of a root mean square around 0.05, and no norm stands before the layers, which would take the voltage away."""
SHORTEST_STEP, LONGEST_STEP = 0.01, 0.3
"""Range of the time constants that channels begin with, in steps of the sequence: a memory of 200 down to 7 steps."""


class StateSpaceEncoder(nn.Module):
    """12-lead ECG in, one vector per step of all leads out."""

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = Stem(config)
        self.encoder = Layers(config)
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
        """Vectors of every step [B, T, D]; arguments and hidden states as in `HubertECGEncoder.encode`.

        Samples that do not count are read as zero. Raises ValueError for `mask_time_indices`: there are no codes to
        predict, and nothing to hide.
        """
        if mask_time_indices is not None:
            raise ValueError("mask_time_indices: wanted none, a state-space encoder does not predict masked tokens")
        hidden_BTD = self.feature_extractor(leads_that_count(input_values, attention_mask))
        hidden_states = [hidden_BTD]
        for layer in self.encoder.layers:
            hidden_BTD = layer(hidden_BTD)
            hidden_states.append(hidden_BTD)
        return BaseModelOutput(
            last_hidden_state=self.encoder.layer_norm(hidden_BTD),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )

    def token_mask(self, attention_mask: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Which steps count under a mask over samples: those in which any lead has half of its samples.

        [B, L, S] or [B, L * S] -> [B, T] bool.
        """
        return steps_that_count(attention_mask, num_tokens, math.prod(self.config.conv_stride))


class Stem(nn.Module):
    """Convolutions over all leads at once, down to the rate of the layers. [B, L, S] -> [B, T, D]."""

    _requires_grad = True

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        ins = (NUM_LEADS, *config.conv_dim)
        shapes = zip(ins, config.conv_dim, config.conv_kernel, config.conv_stride, strict=False)
        convolutions = [
            nn.Conv1d(narrow, wide, kernel, stride, padding=kernel // 2) for narrow, wide, kernel, stride in shapes
        ]
        for place, convolution in enumerate(convolutions):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            with torch.no_grad():
                convolution.weight.mul_(FIRST_GAIN if place == 0 else 1.0)
        self.conv_layers = nn.ModuleList(convolutions)

    def forward(self, leads_BLS: torch.Tensor) -> torch.Tensor:
        for convolution in self.conv_layers:
            leads_BLS = functional.gelu(convolution(leads_BLS))
        return leads_BLS.transpose(1, 2)


class Layers(nn.Module):
    """The state-space layers and the norm of what they give."""

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StateSpaceLayer(config) for _ in range(config.num_hidden_layers))
        self.layer_norm = nn.LayerNorm(config.hidden_size)


class StateSpaceLayer(nn.Module):
    """Norm, long convolution over time, gated mixing of channels, and the input added to it. [B, T, D] -> the same."""

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.layer_norm = nn.LayerNorm(width)
        self.kernel = LongKernel(width, config.state_size)
        self.skip = nn.Parameter(torch.randn(width))
        self.mix = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        normed_BTD = self.layer_norm(x_BTD)
        long_BTD = long_convolution(normed_BTD, self.kernel(x_BTD.shape[1])) + normed_BTD * self.skip
        mixed_BTD = functional.glu(self.mix(self.dropout(functional.gelu(long_BTD))), dim=-1)
        return x_BTD + self.dropout(mixed_BTD)


class LongKernel(nn.Module):
    """The two-sided kernel of each channel: an impulse response forwards and another one backwards in time.

    State n of a channel decays at the rate exp(log_decay) and turns at the frequency `frequency`, both per unit of the
    step exp(log_step) (S4D-Lin: decay 1/2, frequencies pi n). The response at lag l is the sum over states of
    exp(-decay l) (even cos(frequency l) - odd sin(frequency l)), times the step, so that a channel of long memory is
    no louder than one of short memory.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.empty(2, width, 1).uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)))
        self.log_decay = nn.Parameter(torch.full((2, width, states), math.log(0.5)))
        self.frequency = nn.Parameter((math.pi * torch.arange(states)).expand(2, width, states).clone())
        self.even = nn.Parameter(torch.randn(2, width, states))
        self.odd = nn.Parameter(torch.randn(2, width, states))

    def forward(self, length: int) -> torch.Tensor:
        """[D, 2 T - 1]: lags from -(T - 1), the response to what comes later, to T - 1."""
        step = self.log_step.exp()
        lags = torch.arange(length, dtype=torch.float32, device=step.device)
        # Complex numbers would say the same in one line, and take ten times as long on a CPU.
        fading = torch.exp(-(self.log_decay.exp() * step)[..., None] * lags)
        turning = (self.frequency * step)[..., None] * lags
        waves = (self.even * step)[..., None] * turning.cos() - (self.odd * step)[..., None] * turning.sin()
        later, earlier = (fading * waves).sum(dim=2).unbind(0)
        # Lag 0 belongs to the forward response alone.
        return torch.cat([later[:, 1:].flip(1), earlier], dim=1)


def long_convolution(x_BTD: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """y[t] = sum over s of kernel[t - s] x[s], channel by channel. [B, T, D] and [D, 2 T - 1] -> [B, T, D]."""
    width, taps = kernel.shape
    length = (taps + 1) // 2
    # With the sequence reversed the matrix is a Hankel matrix, and that is a reshape away from copies of the kernel:
    # rows of 2 T - 1 numbers, read in rows of 2 T, are shifted by one in each row.
    copies = kernel[:, None].expand(width, length, taps).reshape(width, length * taps)
    hankel = functional.pad(copies, (0, length)).view(width, length, taps + 1)[:, :, :length]
    reversed_DBT = x_BTD.flip(1).permute(2, 0, 1)
    return torch.bmm(reversed_DBT, hankel).permute(1, 2, 0)
