"""The outputs that training alone has, and the loss of labels and auxiliary targets together.

The two losses are means over different numbers of targets, while a step's loss is one ratio, whose parts may lie on
several ranks and in several pieces. So each is divided by the number of targets that a recording is expected to have
known, and the ratio's weight is the number of recordings.

Shapes: B recordings, D hidden size, N labels, A auxiliary targets.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubert_ecg.models.config import Task
from hubert_ecg.models.loss import classification_loss, known_binary_loss
from hubert_ecg.training.step import StepLoss


@dataclass(frozen=True, kw_only=True)
class AuxiliaryLoss:
    """How both losses are counted."""

    num_targets: int
    """Auxiliary targets."""
    weight: float
    """Of their mean loss."""
    labels_known: float
    """What a training recording is expected to weigh in the labels' loss: labels that are known of it, or weights of
    classes."""
    targets_known: float
    """Auxiliary targets that are expected to be known of a training recording."""


class AuxiliaryHead(nn.Module):
    """A linear layer beside a classifier's head. It is no part of the classifier, and kept with the trainer's state."""

    def __init__(self, hidden_size: int, counted: AuxiliaryLoss) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, counted.num_targets)
        self.counted = counted

    def forward(self, pooled_BD: torch.Tensor) -> torch.Tensor:
        """[B, A] scores."""
        scores_BA: torch.Tensor = self.linear(pooled_BD)
        return scores_BA

    def loss(
        self,
        logits_BN: torch.Tensor,
        scores_BA: torch.Tensor,
        targets: torch.Tensor,
        *,
        task: Task,
        weights: torch.Tensor | None,
    ) -> StepLoss:
        """Of labels and auxiliary targets, which lie one after the other in [B, N + A] shares, NaN where unknown."""
        labels_BN, others_BA = targets.split([logits_BN.shape[1], scores_BA.shape[1]], dim=1)
        if task == "multi_class":
            # Of an unknown class no class has a share, and so neither loss nor gradient.
            labels, _ = classification_loss(logits_BN, labels_BN.nan_to_num(), task=task, weights=weights)
        else:
            labels = known_binary_loss(logits_BN, labels_BN, weights=weights)
        others = known_binary_loss(scores_BA, others_BA)
        counted = self.counted
        total = labels / counted.labels_known + counted.weight / counted.targets_known * others
        return StepLoss(total=total, weight=torch.tensor(float(len(targets)), device=total.device))

    def tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.linear.state_dict())

    def described(self) -> Any:
        return None

    def restore(self, tensors: dict[str, torch.Tensor], described: Any) -> None:
        self.linear.load_state_dict(tensors)
