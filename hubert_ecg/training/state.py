"""The trainer's own state between two steps, without pickles: tensors as safetensors, the rest as JSON.

Beside weights and optimiser a training may hold other things that change as it goes on: an average of the weights, a
regulariser, a gradient scaler. Each is a named `StatePart`, saved and restored with the rest.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from hubert_ecg.errors import CheckpointError

TENSORS = "trainer_state.safetensors"
STATE = "trainer_state.json"
OPTIMISER = "optimiser"


class StatePart(Protocol):
    """Something beside weights and optimiser that has to go on where it stopped. It is the same on every rank."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors by name, on any device; empty when it has none."""
        ...

    def described(self) -> Any:
        """The rest of it, as a JSON value."""
        ...

    def restore(self, tensors: dict[str, torch.Tensor], described: Any) -> None:
        """Take back what the two above gave; tensors are on the CPU."""
        ...


@dataclass(kw_only=True)
class TrainerState:
    """What a run needs, besides weights, optimiser and parts, to go on where it stopped. The same on every rank."""

    step: int = 0
    """Steps done; the next one has this 0-based number."""
    best_score: float | None = None
    """The best validation score so far; higher is better."""
    best_loss: float | None = None
    """The lowest validation loss so far by more than the smallest improvement."""
    stale_validations: int = 0
    """Validations since then."""
    loss_sum: float = 0.0
    """Sum of the losses of the steps since the last validation, each over all ranks."""
    loss_steps: int = 0
    """How many steps these are."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row of metrics per validation."""


def save_state(
    directory: Path,
    state: TrainerState,
    optimiser: torch.optim.Optimizer,
    parts: Mapping[str, StatePart] | None = None,
) -> None:
    """Write both files into an existing directory."""
    content = optimiser.state_dict()
    groups = {OPTIMISER: _optimiser_tensors(content)}
    groups |= {name: part.tensors() for name, part in (parts or {}).items()}
    tensors = {
        f"{group}//{name}": tensor.detach().cpu().contiguous()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    save_file(tensors, directory / TENSORS)
    described = {
        "state": asdict(state),
        "param_groups": content["param_groups"],
        "parts": {name: part.described() for name, part in (parts or {}).items()},
    }
    (directory / STATE).write_text(json.dumps(described))


def load_state(
    directory: Path, optimiser: torch.optim.Optimizer, parts: Mapping[str, StatePart] | None = None
) -> TrainerState:
    """Restore optimiser and parts in place and return the rest.

    Raises CheckpointError when they belong to another model or to other settings.
    """
    described = json.loads((directory / STATE).read_text())
    _check(directory, described, optimiser, parts or {})
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(directory / TENSORS).items():
        group, key = name.split("//", 1)
        groups.setdefault(group, {})[key] = tensor
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in groups.get(OPTIMISER, {}).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": described["param_groups"]})
    for name, part in (parts or {}).items():
        part.restore(groups.get(name, {}), described["parts"][name])
    return TrainerState(**described["state"])


def _optimiser_tensors(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {f"{index}.{name}": value for index, values in content["state"].items() for name, value in values.items()}


def _check(
    directory: Path, described: dict[str, Any], optimiser: torch.optim.Optimizer, parts: Mapping[str, StatePart]
) -> None:
    shapes = [len(group["params"]) for group in optimiser.state_dict()["param_groups"]]
    found = [len(group["params"]) for group in described["param_groups"]]
    if shapes != found:
        raise CheckpointError(
            f"{directory}: wanted optimiser state for {shapes} parameters per group, got {found}; "
            f"the run was begun with another model"
        )
    if sorted(parts) != sorted(described["parts"]):
        raise CheckpointError(
            f"{directory}: wanted the state of {sorted(parts) or 'nothing else'} beside the optimiser's, got that of "
            f"{sorted(described['parts']) or 'nothing else'}; the run was begun with other settings"
        )
