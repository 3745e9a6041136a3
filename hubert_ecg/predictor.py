"""From a recording to probabilities: the one inference path of evaluation, batch prediction and the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform, model_input, prepare_waveform
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import ConfigError
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one recording."""

    record_id: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """One per label: mean over the crops."""
    thresholds: tuple[float, ...]
    """One per label, chosen on validation recordings and carried by the checkpoint."""
    fingerprint: str
    """Of the checkpoint's weights."""

    @property
    def positive(self) -> tuple[str, ...]:
        """Labels whose probability reaches their threshold."""
        triples = zip(self.labels, self.probabilities, self.thresholds, strict=True)
        return tuple(label for label, probability, threshold in triples if probability >= threshold)

    def __str__(self) -> str:
        triples = zip(self.labels, self.probabilities, self.thresholds, strict=True)
        lines = [
            f"{label:<12} {probability:6.3f}  {'positive' if probability >= threshold else ''}".rstrip()
            for label, probability, threshold in triples
        ]
        return "\n".join([self.record_id or "recording", *lines])


class Predictor:
    """A classifier with its preprocessing, thresholds and labels, ready to apply."""

    def __init__(
        self,
        model: HubertECGClassifier,
        info: CheckpointInfo,
        *,
        num_crops: int = 3,
        device: torch.device | str | None = None,
    ) -> None:
        """`num_crops` crops, evenly spread over the recording, are averaged; `device` defaults to a GPU if present."""
        if num_crops < 1:
            raise ConfigError(f"num_crops: wanted at least 1, got {num_crops}")
        self.info = info
        self.num_crops = num_crops
        self.preprocess = PreprocessConfig.from_dict(info.preprocessing)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.eval().to(self.device)
        self.labels = tuple(info.label_names or ())
        self.thresholds = tuple(info.thresholds or [0.5] * len(self.labels))

    @classmethod
    def load(cls, checkpoint: str | Path, *, num_crops: int = 3, device: torch.device | str | None = None) -> Self:
        """From a directory that jobs.finetune wrote. Raises CheckpointError for a backbone without a head."""
        model, info = load_checkpoint(checkpoint, expect="classifier")
        return cls(model, info, num_crops=num_crops, device=device)

    def predict(self, recording: Recording) -> Prediction:
        """Filter, scale, crop and classify one recording, as evaluation does. Raises RecordingError when unusable."""
        waveform: Waveform = prepare_waveform(standard_12_lead(recording), self.preprocess)
        probabilities = self.probabilities([waveform.counts])[0]
        return Prediction(
            record_id=recording.record_id,
            labels=self.labels,
            probabilities=tuple(float(p) for p in probabilities),
            thresholds=self.thresholds,
            fingerprint=self.info.fingerprint,
        )

    def probabilities(self, counts: Sequence[np.ndarray]) -> np.ndarray:
        """Prepared waveforms, each [12, time] int16 -> [recording, label] float32, the mean over crops."""
        starts = [self._crop_starts(row.shape[1]) for row in counts]
        crops = [
            model_input(row, start, self.preprocess) for row, own in zip(counts, starts, strict=True) for start in own
        ]
        with torch.inference_mode():
            inputs = torch.from_numpy(np.stack(crops)).to(self.device)
            by_crop = self.model.probabilities(self.model(inputs).logits).float().cpu().numpy()
        bounds = np.cumsum([0] + [len(own) for own in starts])
        return np.stack([by_crop[a:b].mean(axis=0) for a, b in pairwise(bounds)])

    def _crop_starts(self, num_samples: int) -> list[float]:
        """Starts in seconds, from the first sample to the last that fits; one where there is no room for more."""
        room = (num_samples - self.preprocess.table_crop_samples) / self.preprocess.table_rate_hz
        if room <= 0:
            return [0.0]
        if self.num_crops == 1:
            return [room / 2]
        return [float(start) for start in np.linspace(0, room, self.num_crops)]
