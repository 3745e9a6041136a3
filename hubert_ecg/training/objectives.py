"""What is trained: masked prediction of token codes, and classification; each as a module whose forward is a loss.

The whole computation sits in `forward`, because DistributedDataParallel only follows gradients that start there.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.loss import IGNORED_CODE, PredictionResult, classification_loss, masked_prediction_loss
from hubert_ecg.models.masking import mask_tokens
from hubert_ecg.models.ssl import HubertECG
from hubert_ecg.training.auxiliary_head import AuxiliaryHead
from hubert_ecg.training.step import StepLoss


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
    """Predict the codes of hidden tokens. Shapes: B recordings, T tokens, C codebooks, S samples."""

    def __init__(self, model: HubertECG, masking: MaskingConfig) -> None:
        super().__init__()
        self.model, self.masking = model, masking
        attend_by_majority(model)

    def forward(
        self,
        inputs_BS: torch.Tensor,
        codes_BCT: torch.Tensor,
        mask_BT: torch.Tensor,
        attention_mask_BS: torch.Tensor | None = None,
    ) -> PredictionResult:
        """Inputs, codes of every token, which tokens are hidden, which samples count -> loss sum, weight and accuracy.

        Tokens that the model does not attend to take no part, whatever their code.
        """
        scores = self.scores(inputs_BS, mask_BT, attention_mask_BS)
        return self.loss(scores, codes_BCT, mask_BT, attention_mask_BS)

    def scores(
        self, inputs_BS: torch.Tensor, mask_BT: torch.Tensor, attention_mask_BS: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """One tensor [B, T, V] per codebook: the score of every cluster at every token."""
        encoded = self.model.encode(inputs_BS, attention_mask=attention_mask_BS, mask_time_indices=mask_BT)
        return self.model.logits(encoded.last_hidden_state)

    def loss(
        self,
        scores: list[torch.Tensor],
        codes_BCT: torch.Tensor,
        mask_BT: torch.Tensor,
        attention_mask_BS: torch.Tensor | None = None,
    ) -> PredictionResult:
        """The loss of scores that are there already."""
        if attention_mask_BS is not None:
            attended_BT = self.model.token_mask(attention_mask_BS, mask_BT.shape[1])
            codes_BCT = torch.where(attended_BT[:, None], codes_BCT, IGNORED_CODE)
        return masked_prediction_loss(scores, codes_BCT, mask_BT, alpha=self.masking.alpha)

    def draw_masks(self, num_recordings: int, num_tokens: int, seed: int) -> torch.Tensor:
        """[B, T] bool on the CPU, for the recordings of all ranks together; the same on every rank."""
        generator = torch.Generator().manual_seed(seed)
        m = self.masking
        return mask_tokens(num_recordings, num_tokens, m.probability, m.length, m.min_masks, generator)

    def redraw_masks(
        self, mask_BT: torch.Tensor, attention_mask_BS: torch.Tensor, *, seed: int, first: int
    ) -> torch.Tensor:
        """The same masks, but hiding only tokens that are attended to, and of these the configured share.

        Recordings that are attended to throughout keep theirs. `first`: place of the first of these recordings among
        those of all ranks. Spans of several tokens run over the attended tokens as if these were one sequence.
        """
        attended_BT = self.model.token_mask(attention_mask_BS, mask_BT.shape[1]).cpu()
        redrawn_BT = mask_BT.clone()
        m = self.masking
        for row in (~attended_BT.all(dim=1)).nonzero()[:, 0].tolist():
            places = attended_BT[row].nonzero()[:, 0]
            count = len(places)
            redrawn_BT[row] = False
            if count:
                state = np.random.SeedSequence([seed, first + row]).generate_state(1, np.uint64).item()
                generator = torch.Generator().manual_seed(state >> 1)
                hidden = mask_tokens(1, count, m.probability, min(m.length, count), m.min_masks, generator)[0]
                redrawn_BT[row, places] = hidden
        return redrawn_BT


class Classification(nn.Module):
    """What the classifier's task asks for: binary or multi-class cross-entropy, or the squared error of numbers."""

    weights: torch.Tensor | None
    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __init__(
        self,
        model: HubertECGClassifier,
        weights: torch.Tensor | None = None,
        standard: tuple[torch.Tensor, torch.Tensor] | None = None,
        auxiliary: AuxiliaryHead | None = None,
    ) -> None:
        """`weights` [N]: of the positives (multi_label) or of the classes (multi_class). `standard`: mean and standard
        deviation [N] of the numbers of a regression, in whose terms the model's outputs are. `auxiliary`: of what is
        learnt beside the labels."""
        super().__init__()
        self.model = model
        self.auxiliary = auxiliary
        attend_by_majority(model)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("mean", None if standard is None else standard[0], persistent=False)
        self.register_buffer("std", None if standard is None else standard[1], persistent=False)

    def forward(
        self, inputs_BS: torch.Tensor, targets: torch.Tensor, attention_mask_BS: torch.Tensor | None = None
    ) -> StepLoss:
        """Inputs, targets (labels or numbers [B, N], class ids [B, 1]), which samples count -> loss sum and weight.

        With auxiliary targets those of `AuxiliaryHead.loss`.
        """
        if self.auxiliary is None:
            return self.loss(self.logits(inputs_BS, attention_mask_BS), targets)
        model = self.model
        encoded = model.hubert_ecg.encode(inputs_BS, attention_mask_BS)
        pooled_BD = model.pool(encoded.last_hidden_state, attention_mask_BS)
        logits_BN, scores_BA = model.scores(pooled_BD), self.auxiliary(model.dropout(pooled_BD))
        return self.auxiliary.loss(logits_BN, scores_BA, targets, task=model.config.task, weights=self.weights)

    def logits(self, inputs_BS: torch.Tensor, attention_mask_BS: torch.Tensor | None = None) -> torch.Tensor:
        """[B, N]"""
        found: torch.Tensor = self.model(inputs_BS, attention_mask=attention_mask_BS).logits
        return found

    def loss(self, logits_BN: torch.Tensor, targets: torch.Tensor) -> StepLoss:
        """The loss of logits that are there already. Targets of mixed classes are shares [B, N] float32."""
        task = self.model.config.task
        if task == "regression":
            return self._squared_error(logits_BN, targets)
        if task == "multi_class" and not targets.is_floating_point():
            targets = targets[:, 0]
        total, weight = classification_loss(logits_BN, targets, task=task, weights=self.weights)
        return StepLoss(total=total, weight=weight)

    def outputs(self, inputs_BS: torch.Tensor, attention_mask_BS: torch.Tensor | None = None) -> torch.Tensor:
        """[B, N] float32: probabilities, or the numbers themselves for a regression."""
        return self.outputs_of(self.logits(inputs_BS, attention_mask_BS))

    def outputs_of(self, logits_BN: torch.Tensor) -> torch.Tensor:
        """The outputs of logits that are there already."""
        found_BN = self.model.probabilities(logits_BN.float())
        return found_BN if self.mean is None or self.std is None else found_BN * self.std + self.mean

    def _squared_error(self, logits_BN: torch.Tensor, targets_BN: torch.Tensor) -> StepLoss:
        """Over the numbers that are known; an unknown one (NaN) has neither loss nor gradient nor weight."""
        if self.mean is not None and self.std is not None:
            targets_BN = (targets_BN - self.mean) / self.std
        known_BN = torch.isfinite(targets_BN)
        filled_BN = torch.where(known_BN, targets_BN, logits_BN.detach().float())
        total, _ = classification_loss(logits_BN, filled_BN, task="regression")
        return StepLoss(total=total, weight=known_BN.sum().float())


def attend_by_majority(model: HubertECG | HubertECGClassifier) -> None:
    """Read attention masks as `ecg.preprocess.attention_mask` makes them, with leads that end one by one.

    The published models' own rule counts samples from the start of the first lead, which fits no such mask.
    """
    model.config.token_mask_rule = "majority"
