"""Embeddings: what an encoder layer makes of a recording, pooled to one vector, of a classifier or a pre-trained model.

`layer i` is the output of encoder layer i, counted from 0, as everywhere else. `FINAL` is what a classifier's head
reads: the output of the last layer, normed once more where the encoder norms before its blocks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from hubert_ecg.ecg.preprocess import AttendedSpans, PreprocessConfig
from hubert_ecg.errors import ConfigError
from hubert_ecg.models.encoders import AnyEncoder
from hubert_ecg.predictor.crops import CropConfig, cut
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint

FINAL = -1


class Embedder:
    """The encoder of any checkpoint, without its heads. Nothing changes after it is made."""

    def __init__(
        self,
        model: Any,
        info: CheckpointInfo,
        *,
        crops: CropConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """`crops`: by default three, evenly spread; `device`: by default a GPU if there is one."""
        encoder: AnyEncoder = model if info.kind == "ssl" else model.hubert_ecg
        self.info = info
        self.crops = crops or CropConfig()
        self.preprocess = PreprocessConfig.from_dict(info.preprocessing)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.encoder = encoder.eval().requires_grad_(False).to(self.device)
        self.encoder.config.token_mask_rule = "majority"
        self.num_layers: int = encoder.config.num_hidden_layers

    @classmethod
    def load(cls, checkpoint: str | Path, **settings: Any) -> Self:
        """From any checkpoint that can be loaded; `settings` are those of the constructor."""
        return cls(*load_checkpoint(checkpoint), **settings)

    def embed(
        self,
        counts: Sequence[np.ndarray],
        valid_samples: Sequence[np.ndarray] | None = None,
        attended_s: Sequence[AttendedSpans] | None = None,
        *,
        layers: Sequence[int],
    ) -> dict[int, np.ndarray]:
        """Layer -> [recording, D] float32: the mean over the tokens that count and over the crops.

        The waveforms are those of `Predictor.apply`.
        """
        check_layers(layers, self.num_layers)
        crops = cut(counts, valid_samples, attended_s, self.crops, self.preprocess)
        inputs = torch.from_numpy(crops.inputs).to(self.device)
        mask = None if crops.mask is None else torch.from_numpy(crops.mask).to(self.device)
        with torch.inference_mode():
            encoded = self.encoder.encode(inputs, mask, output_hidden_states=True)
            hidden = pooled(self.encoder, encoded, mask, layers)
        return {
            layer: np.stack([of_layer[a:b].mean(axis=0) for a, b in crops.bounds])
            for layer, of_layer in zip(layers, hidden, strict=True)
        }


def pooled(
    encoder: AnyEncoder, encoded: BaseModelOutput, mask: torch.Tensor | None, layers: Sequence[int]
) -> list[np.ndarray]:
    """Per layer [crop, D] float32, the mean over the tokens that count under a mask over samples [crop, 12 * T]."""
    if not layers:
        return []
    chosen = [
        (encoded.last_hidden_state if layer == FINAL else encoded.hidden_states[layer + 1]).float() for layer in layers
    ]
    if mask is None:
        return [of_layer.mean(dim=1).cpu().numpy() for of_layer in chosen]
    found = []
    for of_layer in chosen:
        tokens = encoder.token_mask(mask, of_layer.shape[1])[..., None]
        found.append(((of_layer * tokens).sum(dim=1) / tokens.sum(dim=1).clamp(min=1)).cpu().numpy())
    return found


def check_layers(layers: Sequence[int], num_layers: int) -> None:
    """ConfigError unless the model has all of these layers, each asked for once; `FINAL` is always there."""
    if len(set(layers)) < len(layers) or any(not FINAL <= layer < num_layers for layer in layers):
        raise ConfigError(
            f"layers: wanted some of 0 to {num_layers - 1} (or {FINAL}, what the head reads), each once, as the model "
            f"has {num_layers} layers, got {list(layers)}"
        )
