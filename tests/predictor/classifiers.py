"""Small classifiers with random weights, and prepared waveforms to apply them to."""

from pathlib import Path

import numpy as np
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.models.config import Task
from hubert_ecg.storage.checkpoint import CheckpointInfo, save_checkpoint

LABELS = ("AFIB", "CRBBB", "NORM")
SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}


def classifier(
    task: Task = "multi_label", labels: tuple[str, ...] = LABELS, seed: int = 0, **overrides: object
) -> HubertECGClassifier:
    """Random weights, with a head that is wide enough for probabilities to differ."""
    torch.manual_seed(seed)
    encoder = HubertECG(model_config("tiny", vocab_sizes=(5,), **(SHAPE | overrides)))  # type: ignore[arg-type]
    model = HubertECGClassifier.from_encoder(encoder, label_names=labels, task=task).eval()
    with torch.no_grad():
        model.classifier.weight.normal_(std=1.0)  # type: ignore[union-attr,operator]
    return model


def info_of(
    task: Task = "multi_label", labels: tuple[str, ...] = LABELS, preprocess: PreprocessConfig | None = None
) -> CheckpointInfo:
    """What a checkpoint of such a classifier carries."""
    contract = (preprocess or PreprocessConfig()).to_dict()
    return CheckpointInfo(kind="classifier", preprocessing=contract, task=task, label_names=labels)


def save_classifier(directory: Path, **overrides: object) -> None:
    """A checkpoint of one."""
    save_checkpoint(directory, classifier(**overrides), info_of())  # type: ignore[arg-type]


def waveforms(count: int, seconds: float = 10.0) -> list[np.ndarray]:
    """Each [12, time] int16 at 100 Hz: smooth noise between -1 and 1 in counts."""
    found = []
    for seed in range(count):
        walk = np.random.default_rng(seed).standard_normal((12, round(100 * seconds))).cumsum(axis=1)
        walk -= walk.mean(axis=1, keepdims=True)
        found.append(np.rint(walk / np.abs(walk).max(axis=1, keepdims=True) * 16384).astype(np.int16))
    return found
