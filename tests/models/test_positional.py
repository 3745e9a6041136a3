"""The spectral form of the positional convolution against the direct one."""

import pytest
import torch
from torch.nn import functional

from hubert_ecg.models.positional import correlate


@pytest.mark.parametrize("taps", [1, 2, 15, 16, 96, 128])
@pytest.mark.parametrize("length", [1, 7, 93, 200])
def test_equals_the_direct_convolution(taps: int, length: int) -> None:
    generator = torch.Generator().manual_seed(taps)
    signal = torch.randn(3, 8, length, dtype=torch.float64, generator=generator, requires_grad=True)
    kernel = torch.randn(8, 4, taps, dtype=torch.float64, generator=generator, requires_grad=True)
    ours = correlate(signal, kernel, groups=2)
    direct = functional.conv1d(signal, kernel, padding=taps // 2, groups=2)[..., :length]
    torch.testing.assert_close(ours, direct)
    weights = torch.randn(direct.shape, dtype=torch.float64, generator=generator)
    ours_grad = torch.autograd.grad((ours * weights).sum(), (signal, kernel))
    torch.testing.assert_close(ours_grad, torch.autograd.grad((direct * weights).sum(), (signal, kernel)))


def test_half_precision_keeps_its_type() -> None:
    signal = torch.ones(1, 2, 4, dtype=torch.bfloat16)
    result = correlate(signal, torch.ones(2, 1, 2, dtype=torch.bfloat16), groups=2)
    assert result.dtype == torch.bfloat16
    assert result[0, 0].tolist() == [1.0, 2.0, 2.0, 2.0]
