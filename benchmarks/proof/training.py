"""One training: random crops, AdamW under a one-cycle schedule, and the mean over evenly spaced crops when judged.

Shapes: N recordings, B crops, C = 12 leads, T samples, L labels, A auxiliary targets.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.proof.augment import Augmentation
from benchmarks.proof.recordings import LARGEST_MV, Recordings
from benchmarks.proof.resnet import ResNet
from hubert_ecg.models import HubertECG
from hubert_ecg.models.adapt import parameter_groups
from hubert_ecg.models.config import model_config
from hubert_ecg.models.cpu import tune_for_cpu
from hubert_ecg.models.state_space import StateSpaceEncoder
from hubert_ecg.storage.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

Architecture = Literal["resnet", "state_space", "hubert", "hubert_pretrained"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that shapes a training but its recordings and seed. The defaults are the baseline."""

    architecture: Architecture = "resnet"
    """`hubert`: size `tiny`, which wants `scaled` leads; `hubert_pretrained`: from a checkpoint of jobs.pretrain, which
    must not have seen the folds that are judged."""
    width: int = 128
    """Of the state-space layers."""
    depth: int = 4
    """State-space layers."""
    dropout: float = 0.1
    """In state-space layers and before the head of either architecture."""
    epochs: int = 30
    lr: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    batch_size: int = 64
    crop_s: float = 2.5
    scaled: bool = False
    """Read each lead scaled to -1 to 1 over its record, instead of mV."""
    auxiliary: float = 0.0
    """Weight of the auxiliary loss: every SCP statement, sex and age, of the same recordings; 0: none."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def pretrained(self) -> bool:
        return self.architecture == "hubert_pretrained"


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What is learnt of each recording; NaN where nothing is known."""

    main: np.ndarray
    """[N, L] float32 in 0..1."""
    auxiliary: np.ndarray
    """[N, A] float32 in 0..1."""


class Classifier(nn.Module):
    """An encoder of 12 leads, and one linear head for the labels and the auxiliary targets."""

    def __init__(self, recipe: Recipe, outputs: int, checkpoint: str | None = None) -> None:
        """`checkpoint`: where a pre-trained encoder lies, for recipes that start from one."""
        super().__init__()
        self.encoder: ResNet | StateSpace | Hubert
        if recipe.architecture.startswith("hubert"):
            self.encoder = Hubert(checkpoint if recipe.pretrained else None)
        else:
            self.encoder = ResNet() if recipe.architecture == "resnet" else StateSpace(recipe)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(self.encoder.features, outputs)

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T] -> logits [B, L + A]."""
        logits: torch.Tensor = self.head(self.dropout(self.encoder(leads_BCT)))
        return logits


class StateSpace(nn.Module):
    """The library's state-space encoder, and the mean over its steps."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        config = model_config(
            "state_space",
            hidden_size=recipe.width,
            conv_dim=[64, 64, recipe.width],
            num_hidden_layers=recipe.depth,
            hidden_dropout=recipe.dropout,
        )
        self.model, self.features = StateSpaceEncoder(config), recipe.width

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T] mV -> [B, D]."""
        pooled_BD: torch.Tensor = self.model.encode(leads_BCT / LARGEST_MV).last_hidden_state.mean(dim=1)
        return pooled_BD


class Hubert(nn.Module):
    """The library's HuBERT of size `tiny`, and the mean over its tokens."""

    def __init__(self, checkpoint: str | None) -> None:
        super().__init__()
        fresh = checkpoint is None
        model = HubertECG(model_config("tiny", vocab_sizes=(1,))) if fresh else load_checkpoint(checkpoint)[0]
        self.model, self.features = model, int(model.config.hidden_size)
        for name, weights in self.model.named_parameters():
            # Heads of codebooks and the mask token take no part.
            weights.requires_grad_(not name.startswith(("final_proj", "label_embedding", "masked_spec_embed")))

    def forward(self, leads_BCT: torch.Tensor) -> torch.Tensor:
        """[B, 12, T], scaled -> [B, D]."""
        pooled_BD: torch.Tensor = self.model.encode(leads_BCT).last_hidden_state.mean(dim=1)
        return pooled_BD


def make_targets(recordings: Recordings, label_set: str, *, auxiliary: bool) -> Targets:
    """The labels of a set, and where asked every SCP statement, sex, and age in steps of ten years."""
    of_set = recordings.label_sets[label_set]
    main = np.where(of_set.answered[:, None], of_set.targets, np.nan).astype(np.float32)
    if not auxiliary:
        return Targets(main=main, auxiliary=np.zeros((len(main), 0), np.float32))
    ages = recordings.ages_years[:, None]
    older = np.where(np.isnan(ages), np.nan, ages > np.arange(25, 90, 10)).astype(np.float32)
    statements = recordings.label_sets["all"].targets.astype(np.float32)
    return Targets(main=main, auxiliary=np.concatenate([statements, recordings.female[:, None], older], axis=1))


def train(
    signals: np.ndarray,
    targets: Targets,
    rows: np.ndarray,
    recipe: Recipe,
    *,
    rate_hz: int,
    seed: int,
    checkpoint: str | None = None,
) -> tuple[Classifier, list[dict[str, Any]]]:
    """A model trained on some rows of [N, 12, T] signals, and what each epoch cost and lost."""
    torch.manual_seed(seed)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    outputs = targets.main.shape[1] + targets.auxiliary.shape[1]
    model = Classifier(recipe, outputs, checkpoint)
    steps = len(rows) // recipe.batch_size
    tune_for_cpu(model)
    optimiser = torch.optim.AdamW(parameter_groups(model, weight_decay=recipe.weight_decay), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=steps * recipe.epochs)
    samples = round(recipe.crop_s * rate_hz)
    history = []
    for epoch in range(recipe.epochs):
        start, cpu_start, total = time.monotonic(), time.process_time(), 0.0
        model.train()
        order = rng.permutation(rows)
        for step in range(steps):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            starts = rng.integers(0, signals.shape[2] - samples + 1, len(chosen))
            crops = torch.from_numpy(
                np.stack([signals[r, :, s : s + samples] for r, s in zip(chosen, starts, strict=True)])
            )
            wanted = torch.from_numpy(np.concatenate([targets.main[chosen], targets.auxiliary[chosen]], axis=1))
            crops, wanted = recipe.augmentation.apply(crops, wanted, generator)
            loss = _loss(model(crops), wanted, targets.main.shape[1], recipe.auxiliary)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        history.append(
            {
                "loss": total / steps,
                "seconds": round(time.monotonic() - start, 2),
                "cpu_seconds": round(time.process_time() - cpu_start, 2),
            }
        )
        log.info("epoch %d of %d: loss %.4f, %.1f s", epoch + 1, recipe.epochs, total / steps, history[-1]["seconds"])
    return model, history


def predict(model: Classifier, signals: np.ndarray, rows: np.ndarray, *, samples: int, labels: int) -> np.ndarray:
    """[N, L] float64: mean probability over crops that begin every half crop, of some rows of the signals."""
    model.eval()
    starts = np.linspace(0, signals.shape[2] - samples, round(2 * signals.shape[2] / samples) - 1).round().astype(int)
    found = []
    with torch.inference_mode():
        for at in range(0, len(rows), 32):
            some = signals[rows[at : at + 32]]
            crops = torch.from_numpy(np.concatenate([some[:, :, s : s + samples] for s in starts]))
            found.append(model(crops)[:, :labels].sigmoid().view(len(starts), len(some), labels).mean(dim=0).numpy())
    return np.concatenate(found).astype(np.float64)


def _loss(logits: torch.Tensor, wanted: torch.Tensor, labels: int, auxiliary: float) -> torch.Tensor:
    known = ~torch.isnan(wanted)
    losses = functional.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none") * known
    main = losses[:, :labels].sum() / known[:, :labels].sum().clamp(min=1)
    if not auxiliary:
        return main
    return main + auxiliary * losses[:, labels:].sum() / known[:, labels:].sum().clamp(min=1)
