"""Learning rate and weight decay against values worked out by hand."""

import pytest
import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.training.optimiser import OptimiserConfig, learning_rate, make_optimiser


def test_the_rate_rises_and_falls_linearly() -> None:
    config = OptimiserConfig(lr=1.0, warmup_share=0.25)
    rates = [learning_rate(step, steps=8, config=config) for step in range(8)]
    assert rates == pytest.approx([1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_without_warm_up_the_rate_starts_at_its_peak() -> None:
    assert learning_rate(0, steps=10, config=OptimiserConfig(lr=0.5, warmup_share=0.0)) == 0.5


def test_only_matrices_decay_and_frozen_weights_stay_out() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2))
    module[2].requires_grad_(False)
    groups = make_optimiser(module, OptimiserConfig(weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (3, 0.0)]


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"warmup_share": 1.0}, {"clip_norm": -1.0}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="--optimiser"):
        OptimiserConfig(**wrong)
