"""TokenGrid against hand-worked numbers and against the gradient of a real convolution stack."""

import numpy as np
import pytest

from hubert_ecg.ecg.tokens import CONV_STEMS, TokenGrid
from hubert_ecg.errors import ConfigError, InputError


@pytest.mark.parametrize(("rate_hz", "stride", "field"), [(50, 32, 50), (100, 64, 82), (500, 320, 400)])
def test_five_seconds_of_twelve_leads_are_93_tokens_at_every_rate(rate_hz: int, stride: int, field: int) -> None:
    grid = TokenGrid.at_rate(rate_hz)
    assert (grid.stride, grid.receptive_field) == (stride, field)
    assert grid.num_tokens(12 * 5 * rate_hz) == 93


@pytest.mark.parametrize("rate_hz", sorted(CONV_STEMS))
def test_fields_are_those_that_a_convolution_stack_sees(rate_hz: int) -> None:
    import torch

    grid = TokenGrid.at_rate(rate_hz)
    num_samples = grid.receptive_field + 2 * grid.stride + 1
    samples = torch.zeros(1, 1, num_samples, requires_grad=True)
    tokens = samples
    for kernel, stride in zip(grid.kernels, grid.strides, strict=True):
        tokens = torch.nn.functional.conv1d(tokens, torch.ones(1, 1, kernel), stride=stride)
    assert tokens.shape[-1] == grid.num_tokens(num_samples) == 3
    for token in range(3):
        (gradient,) = torch.autograd.grad(tokens[0, 0, token], samples, retain_graph=True)
        seen = np.flatnonzero(gradient[0, 0].numpy())
        assert (seen[0], seen[-1] + 1) == grid.field(token)
        assert len(seen) == grid.receptive_field


def test_number_of_tokens_changes_exactly_where_one_more_field_fits() -> None:
    grid = TokenGrid.at_rate(100)
    assert [grid.num_tokens(n) for n in (0, 81, 82, 145, 146)] == [0, 0, 1, 1, 2]


def test_windows_tile_the_sequence() -> None:
    grid = TokenGrid.at_rate(100)
    sequence = np.arange(6000)
    windows = grid.windows(sequence)
    assert windows.shape == (93, 64)
    np.testing.assert_array_equal(windows.reshape(-1), sequence[: 93 * 64])
    start, stop = grid.window(92)
    np.testing.assert_array_equal(windows[92], sequence[start:stop])
    assert np.shares_memory(windows, sequence)


def test_windows_of_a_batch_are_those_of_its_rows() -> None:
    grid = TokenGrid.at_rate(50)
    batch = np.random.default_rng(0).standard_normal((3, 3000))
    np.testing.assert_array_equal(grid.windows(batch)[1], grid.windows(batch[1]))


def test_lead_of_token_is_the_one_with_most_samples() -> None:
    grid = TokenGrid.at_rate(100)
    leads = grid.lead_of_token(500)
    lead_of_sample = np.repeat(np.arange(12), 500)
    for token, lead in enumerate(leads):
        share = np.bincount(lead_of_sample[slice(*grid.window(token))], minlength=12)
        assert share[lead] == share.max()
    # Window 7 is samples 448 to 511: 52 of lead I, 12 of lead II. Window 62 is split evenly, 32 and 32.
    assert (leads[7], leads[8], leads[62]) == (0, 1, 8)
    assert np.bincount(leads).tolist() == [8, 8, 7, 8, 8, 8, 8, 7, 8, 8, 8, 7]


def test_lead_of_token_is_the_same_at_every_rate() -> None:
    expected = TokenGrid.at_rate(100).lead_of_token(500)
    for rate_hz in CONV_STEMS:
        np.testing.assert_array_equal(TokenGrid.at_rate(rate_hz).lead_of_token(5 * rate_hz), expected)


def test_an_unknown_rate_and_a_short_sequence_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 250 Hz"):
        TokenGrid.at_rate(250)
    with pytest.raises(InputError, match=r"at least 82 samples.*got 81"):
        TokenGrid.at_rate(100).windows(np.zeros((2, 81)))
    with pytest.raises(ConfigError, match="one positive stride"):
        TokenGrid(kernels=(3, 2), strides=(2,))
