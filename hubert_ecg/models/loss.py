"""The losses: masked prediction of codes, and what a classifier is trained with.

Losses come as sums with counts, so that a caller can divide by the counts of all ranks and accumulated batches.

Shapes: B recordings, C codebooks, T tokens, V clusters of a codebook, N labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from hubert_ecg.models.config import Task

IGNORED_CODE = -100
"""The code of a token that has none, padding for example; any negative code is ignored alike."""


@dataclass(frozen=True, kw_only=True)
class PredictionResult:
    """Masked prediction over one batch: sums per codebook, [C] each, of tokens that have a code."""

    alpha: float
    """Weight of masked tokens; the others weigh 1 - alpha."""
    masked_loss: torch.Tensor
    """Sum of cross-entropies in nats over masked tokens; carries the gradient."""
    unmasked_loss: torch.Tensor
    """The same over tokens that are not masked."""
    masked_correct: torch.Tensor
    """Masked tokens whose code has the highest score."""
    unmasked_correct: torch.Tensor
    """The same over tokens that are not masked."""
    masked_count: torch.Tensor
    """Masked tokens."""
    unmasked_count: torch.Tensor
    """Tokens that are not masked."""

    @property
    def total(self) -> torch.Tensor:
        """Weighted sum over tokens and codebooks; `total / weight` is the loss."""
        return (self.alpha * self.masked_loss + (1 - self.alpha) * self.unmasked_loss).sum()

    @property
    def weight(self) -> torch.Tensor:
        """Weighted number of tokens, the mean over codebooks: `total / weight` adds the codebooks' losses up."""
        return (self.alpha * self.masked_count + (1 - self.alpha) * self.unmasked_count).mean()

    @property
    def masked_accuracy(self) -> torch.Tensor:
        """[C] share of masked tokens whose code was predicted; 0 where no token is masked."""
        return self.masked_correct / self.masked_count.clamp(min=1)


def masked_prediction_loss(
    logits: Sequence[torch.Tensor], codes_BCT: torch.Tensor, mask_BT: torch.Tensor, *, alpha: float = 1.0
) -> PredictionResult:
    """Cross-entropy between the scores [B, T, V] of each codebook and the codes.

    `mask_BT` is True where a token was hidden; codes below 0 are ignored. Computed in float32, without indexing by a
    mask, which would synchronise the device.
    """
    if codes_BCT.shape != (mask_BT.shape[0], len(logits), mask_BT.shape[1]):
        raise ValueError(
            f"codes: wanted [recording, codebook, token] = [{mask_BT.shape[0]}, {len(logits)}, {mask_BT.shape[1]}], "
            f"got {list(codes_BCT.shape)}"
        )
    losses, correct = [], []
    for scores_BTV, codes_BT in zip(logits, codes_BCT.unbind(dim=1), strict=True):
        targets_BT = torch.where(codes_BT < 0, IGNORED_CODE, codes_BT).long()
        loss = functional.cross_entropy(
            scores_BTV.float().flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED_CODE, reduction="none"
        )
        losses.append(loss.view_as(mask_BT))
        correct.append(scores_BTV.argmax(dim=-1) == targets_BT)
    losses_CBT, correct_CBT = torch.stack(losses), torch.stack(correct)
    has_code_CBT = codes_BCT.transpose(0, 1) >= 0
    masked_CBT, unmasked_CBT = has_code_CBT & mask_BT, has_code_CBT & ~mask_BT
    return PredictionResult(
        alpha=alpha,
        masked_loss=(losses_CBT * masked_CBT).sum(dim=(1, 2)),
        unmasked_loss=(losses_CBT * unmasked_CBT).sum(dim=(1, 2)),
        masked_correct=(correct_CBT & masked_CBT).sum(dim=(1, 2)),
        unmasked_correct=(correct_CBT & unmasked_CBT).sum(dim=(1, 2)),
        masked_count=masked_CBT.sum(dim=(1, 2)),
        unmasked_count=unmasked_CBT.sum(dim=(1, 2)),
    )


def classification_loss(
    logits_BN: torch.Tensor, targets: torch.Tensor, *, task: Task, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, weight): their ratio is the mean loss.

    `multi_label`: binary cross-entropy with targets [B, N] in 0..1; `weights` [N] multiply the positives.
    `multi_class`: cross-entropy with class ids [B], or with shares of the classes [B, N] for mixtures; `weights` [N] by
    class, and the weight is theirs.
    `regression`: squared error with targets [B, N]; `weights` [N] multiply the outputs' errors.
    """
    logits_BN = logits_BN.float()
    if task == "multi_class":
        total = functional.cross_entropy(logits_BN, targets, weight=weights, reduction="sum")
        if weights is None:
            return total, torch.tensor(float(len(targets)), device=total.device)
        return total, (targets * weights).sum() if targets.is_floating_point() else weights[targets].sum()
    if task == "multi_label":
        total = functional.binary_cross_entropy_with_logits(
            logits_BN, targets.float(), pos_weight=weights, reduction="sum"
        )
    else:
        errors_BN = (logits_BN - targets.float()) ** 2
        total = (errors_BN if weights is None else errors_BN * weights).sum()
    return total, torch.tensor(float(logits_BN.numel()), device=total.device)


def known_binary_loss(
    logits_BN: torch.Tensor, targets_BN: torch.Tensor, *, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """The sum of binary cross-entropies over those targets in 0..1 that are known; NaN has neither loss nor gradient.

    `weights` [N] multiply the positives.
    """
    losses_BN = functional.binary_cross_entropy_with_logits(
        logits_BN.float(), targets_BN.nan_to_num(), pos_weight=weights, reduction="none"
    )
    return (losses_BN * ~targets_BN.isnan()).sum()
