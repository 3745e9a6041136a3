"""What a run keeps of itself comes back as it was, the parts that a training adds included."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hubert_ecg.errors import CheckpointError
from hubert_ecg.training.state import TrainerState, load_state, save_state


class Average:
    """Stands for an average of the weights, and counts."""

    def __init__(self, module: torch.nn.Module, count: int = 0) -> None:
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.count = count

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.weights

    def described(self) -> Any:
        return {"count": self.count}

    def restore(self, tensors: dict[str, torch.Tensor], described: Any) -> None:
        self.weights, self.count = tensors, described["count"]


class Counter(Average):
    """Has no tensors."""

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}


def stepped() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(4, 3)).sum().backward()
    optimiser.step()
    return module, optimiser


def test_everything_comes_back(tmp_path: Path) -> None:
    module, optimiser = stepped()
    state = TrainerState(
        step=7, best_score=0.1 + 0.2, loss_sum=1 / 3, loss_steps=3, history=[{"step": 5, "score": 0.3}]
    )
    save_state(tmp_path, state, optimiser, {"ema/slow": Average(module, 4), "count": Counter(module, 9)})

    other, fresh = stepped()
    parts = {"ema/slow": Average(other), "count": Counter(other)}
    assert load_state(tmp_path, fresh, parts) == state
    assert (parts["ema/slow"].count, parts["count"].count) == (4, 9)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(parts["ema/slow"].weights[name], value, rtol=0, atol=0)
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(fresh.state_dict()["state"][index][name], value, rtol=0, atol=0)


def test_parts_of_other_settings_are_refused(tmp_path: Path) -> None:
    module, optimiser = stepped()
    save_state(tmp_path, TrainerState(), optimiser, {"ema": Average(module)})
    with pytest.raises(CheckpointError, match=r"wanted the state of nothing else .* got that of \['ema'\]"):
        load_state(tmp_path, optimiser)
