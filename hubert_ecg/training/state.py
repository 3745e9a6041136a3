"""The trainer's own state between two steps, without pickles: optimiser tensors as safetensors, the rest as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hubert_ecg.errors import CheckpointError

TENSORS = "trainer_state.safetensors"
STATE = "trainer_state.json"


@dataclass(kw_only=True)
class TrainerState:
    """What a run needs, besides weights and optimiser, to go on where it stopped."""

    step: int = 0
    """Steps done; the next one has this 0-based number."""
    best_score: float | None = None
    """The best validation score so far; higher is better."""
    stale_validations: int = 0
    """Validations since then."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row of metrics per validation."""


def save_state(directory: Path, state: TrainerState, optimiser: torch.optim.Optimizer) -> None:
    """Write both files into an existing directory."""
    content = optimiser.state_dict()
    tensors = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in content["state"].items()
        for name, value in values.items()
    }
    save_file(tensors, directory / TENSORS)
    described = {"state": asdict(state), "param_groups": content["param_groups"]}
    (directory / STATE).write_text(json.dumps(described))


def load_state(directory: Path, optimiser: torch.optim.Optimizer) -> TrainerState:
    """Restore the optimiser in place and return the rest; CheckpointError when it belongs to another model."""
    described = json.loads((directory / STATE).read_text())
    shapes = [len(group["params"]) for group in optimiser.state_dict()["param_groups"]]
    found = [len(group["params"]) for group in described["param_groups"]]
    if shapes != found:
        raise CheckpointError(
            f"{directory}: wanted optimiser state for {shapes} parameters per group, got {found}; "
            f"the run was begun with another model"
        )
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(directory / TENSORS).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": described["param_groups"]})
    return TrainerState(**described["state"])
