"""One training: random crops, AdamW under a one-cycle schedule, and the mean over evenly spaced crops when judged.

Shapes: N recordings, B crops, C = 12 leads, T samples, L labels, A auxiliary targets.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.proof.encoders import Classifier
from benchmarks.proof.recipes import Recipe
from benchmarks.proof.recordings import Recordings
from hubert_ecg.models.adapt import parameter_groups
from hubert_ecg.models.cpu import tune_for_cpu

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What is learnt of each recording; NaN where nothing is known."""

    main: np.ndarray
    """[N, L] float32 in 0..1."""
    auxiliary: np.ndarray
    """[N, A] float32 in 0..1."""


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
