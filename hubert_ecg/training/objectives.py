"""What is trained: masked prediction of token codes, and classification; each as a module whose forward is a loss.

The whole computation sits in `forward`, because DistributedDataParallel only follows gradients that start there.
"""

from dataclasses import dataclass

import torch
from torch import nn

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.loss import PredictionResult, classification_loss, masked_prediction_loss
from hubert_ecg.models.masking import mask_tokens
from hubert_ecg.models.ssl import HubertECG
from hubert_ecg.training.loop import StepLoss


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """Masked prediction: how much is hidden, and what counts."""

    probability: float = 0.33
    """Share of tokens that are hidden."""
    length: int = 1
    """Tokens per hidden span."""
    min_masks: int = 2
    """At least this many spans per recording."""
    alpha: float = 1.0
    """Weight of hidden tokens in the loss; visible ones get 1 - alpha."""

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise ConfigError(f"--masking.probability: wanted a share in (0, 1), got {self.probability}")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"--masking.alpha: wanted a weight in [0, 1], got {self.alpha}")


class MaskedPrediction(nn.Module):
    """Predict the codes of hidden tokens. Shapes: B recordings, T tokens, C codebooks."""

    def __init__(self, model: HubertECG, masking: MaskingConfig) -> None:
        super().__init__()
        self.model, self.masking = model, masking

    def forward(self, inputs: torch.Tensor, codes_BCT: torch.Tensor, mask_BT: torch.Tensor) -> PredictionResult:
        """Inputs [B, 12 * T'], codes of every token, and which tokens are hidden -> loss sum, weight and accuracy."""
        return masked_prediction_loss(self.scores(inputs, mask_BT), codes_BCT, mask_BT, alpha=self.masking.alpha)

    def scores(self, inputs: torch.Tensor, mask_BT: torch.Tensor) -> list[torch.Tensor]:
        """One tensor [B, T, V] per codebook: the score of every cluster at every token."""
        return self.model.logits(self.model.encode(inputs, mask_time_indices=mask_BT).last_hidden_state)

    def draw_masks(self, num_recordings: int, num_tokens: int, seed: int) -> torch.Tensor:
        """[B, T] bool on the CPU, for the recordings of all ranks together; the same on every rank."""
        generator = torch.Generator().manual_seed(seed)
        m = self.masking
        return mask_tokens(num_recordings, num_tokens, m.probability, m.length, m.min_masks, generator)


class Classification(nn.Module):
    """Binary cross-entropy of every label, or what the classifier's task asks for instead."""

    positive_weights: torch.Tensor | None

    def __init__(self, model: HubertECGClassifier, positive_weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("positive_weights", positive_weights, persistent=False)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> StepLoss:
        """Inputs [B, 12 * T'] and targets -> summed loss and its weight."""
        logits_BL = self.model(inputs).logits
        task = self.model.config.task
        total, weight = classification_loss(logits_BL, targets, task=task, weights=self.positive_weights)
        return StepLoss(total=total, weight=weight)
