"""Masks: reproducible, of the right share and form, and distributed as transformers distributes its own."""

import numpy as np
import pytest
import torch
from transformers.models.hubert.modeling_hubert import _compute_mask_indices

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.masking import mask_tokens


def draw(batch: int, tokens: int, p: float, length: int, minimum: int, seed: int = 0) -> torch.Tensor:
    return mask_tokens(batch, tokens, p, length, minimum, torch.Generator().manual_seed(seed))


def test_same_seed_same_masks_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    assert torch.equal(draw(8, 93, 0.33, 1, 2), draw(8, 93, 0.33, 1, 2))
    assert not torch.equal(draw(8, 93, 0.33, 1, 2), draw(8, 93, 0.33, 1, 2, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_single_tokens_number_30_or_31_of_93_with_the_right_expectation() -> None:
    mask = draw(20_000, 93, 0.33, 1, 2)
    counts = mask.sum(dim=1)
    assert mask.shape == (20_000, 93)
    assert mask.dtype == torch.bool
    assert set(counts.tolist()) == {30, 31}
    # 0.33 * 93 = 30.69: 31 with probability 0.69, whose standard error here is 0.0033.
    assert counts.double().mean() == pytest.approx(30.69, abs=0.015)


def test_every_token_is_masked_equally_often() -> None:
    share = draw(20_000, 93, 0.33, 1, 2).double().mean(dim=0)
    # Standard error 0.0033; the largest of 93 deviations stays below 4.5 of them.
    assert (share - 0.33).abs().max() < 4.5 * 0.0033


@pytest.mark.parametrize(
    ("p", "length", "minimum"), [(0.33, 1, 2), (0.65, 10, 2), (0.2, 3, 0), (0.01, 5, 2), (1.0, 1, 0)]
)
def test_the_share_of_masked_tokens_is_that_of_transformers(p: float, length: int, minimum: int) -> None:
    ours = draw(4000, 93, p, length, minimum).double().mean(dim=1)
    state = np.random.get_state()  # noqa: NPY002 - transformers draws from the global state
    np.random.seed(0)  # noqa: NPY002
    theirs = np.concatenate(
        [_compute_mask_indices((4, 93), p, length, min_masks=minimum).mean(axis=1) for _ in range(1000)]
    )
    np.random.set_state(state)  # noqa: NPY002
    # Transformers rounds once for a batch of 4, so that its mean is that of 1000 draws at worst.
    error = theirs.std() / np.sqrt(1000) + float(ours.std()) / np.sqrt(4000)
    assert abs(float(ours.mean()) - theirs.mean()) <= 4 * error + 1e-12


def test_masked_tokens_come_in_runs_of_at_least_the_length() -> None:
    mask = draw(200, 50, 0.3, 7, 1).numpy()
    assert mask.any(axis=1).all()
    for row in mask:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        assert ((edges[1::2] - edges[::2]) >= 7).all()


def test_counts_are_bounded_by_the_minimum_and_by_what_fits() -> None:
    assert draw(50, 93, 0.0, 1, 2).sum(dim=1).unique().tolist() == [2]
    assert draw(50, 93, 0.0, 1, 0).sum() == 0
    assert draw(50, 10, 1.0, 1, 0).all()
    assert draw(50, 10, 1.0, 10, 5).all()


@pytest.mark.parametrize(("p", "length"), [(-0.1, 1), (1.1, 1), (0.3, 0), (0.3, 94)])
def test_impossible_masks_are_refused(p: float, length: int) -> None:
    with pytest.raises(ConfigError, match="mask"):
        draw(2, 93, p, length, 2)
