"""What reads the leads, by architecture, and the head behind it.

Shapes: B recordings, C = 12 leads, T samples, D features, L labels, A auxiliary targets.
"""

from typing import Any

import torch
from torch import nn

from benchmarks.proof.recipes import Recipe
from benchmarks.proof.recordings import LARGEST_MV
from benchmarks.proof.resnet import ResNet
from hubert_ecg.models import HubertECG
from hubert_ecg.models.config import HubertECGConfig, model_config
from hubert_ecg.models.state_space import StateSpaceEncoder, Stem
from hubert_ecg.storage.checkpoint import load_checkpoint


class Classifier(nn.Module):
    """An encoder of 12 leads, and one linear head for the labels and the auxiliary targets."""

    def __init__(self, recipe: Recipe, outputs: int, checkpoint: str | None = None) -> None:
        """`checkpoint`: where a pre-trained encoder lies, for recipes that start from one."""
        super().__init__()
        self.encoder = encoder_of(recipe, checkpoint)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(self.encoder.features, outputs)

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T] -> logits [B, L + A]."""
        logits: torch.Tensor = self.head(self.dropout(self.encoder(leads_BCT)))
        return logits


def encoder_of(recipe: Recipe, checkpoint: str | None) -> "ResNet | StateSpace | SideBySide | Hubert":
    """The one that a recipe names."""
    match recipe.architecture:
        case "resnet":
            return ResNet()
        case "state_space":
            return StateSpace(recipe)
        case "side_by_side":
            return SideBySide()
    return Hubert(checkpoint if recipe.pretrained else None, unit=1.0 if recipe.scaled else LARGEST_MV)


class StateSpace(nn.Module):
    """The library's state-space encoder, and the mean over its steps."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        config = state_space_config(recipe.width, num_hidden_layers=recipe.depth, hidden_dropout=recipe.dropout)
        self.model, self.features = StateSpaceEncoder(config), recipe.width

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T] mV -> [B, D]."""
        pooled_BD: torch.Tensor = self.model.encode(leads_BCT / LARGEST_MV).last_hidden_state.mean(dim=1)
        return pooled_BD


def state_space_config(width: int, **settings: Any) -> HubertECGConfig:
    return model_config("state_space", hidden_size=width, conv_dim=[64, 64, width], **settings)


class SideBySide(nn.Module):
    """The transformer of HuBERT's size `tiny` behind the state-space encoder's stem, which reads all leads at once."""

    def __init__(self) -> None:
        super().__init__()
        hubert = HubertECG(model_config("tiny", vocab_sizes=(1,)))
        self.features = int(hubert.config.hidden_size)
        self.stem, self.transformer = Stem(state_space_config(self.features)), hubert.encoder

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T] mV -> [B, D]."""
        pooled_BD: torch.Tensor = self.transformer(self.stem(leads_BCT / LARGEST_MV)).last_hidden_state.mean(dim=1)
        return pooled_BD


class Hubert(nn.Module):
    """The library's HuBERT of size `tiny`, and the mean over its tokens."""

    def __init__(self, checkpoint: str | None, *, unit: float) -> None:
        """`unit` of the leads is 1 to the model: of leads in mV the largest voltage that it knows."""
        super().__init__()
        self.unit = unit
        fresh = checkpoint is None
        model = HubertECG(model_config("tiny", vocab_sizes=(1,))) if fresh else load_checkpoint(checkpoint)[0]
        self.model, self.features = model, int(model.config.hidden_size)
        for name, weights in self.model.named_parameters():
            # Heads of codebooks and the mask token take no part.
            weights.requires_grad_(not name.startswith(("final_proj", "label_embedding", "masked_spec_embed")))

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T], scaled or mV -> [B, D]."""
        pooled_BD: torch.Tensor = self.model.encode(leads_BCT / self.unit).last_hidden_state.mean(dim=1)
        return pooled_BD
