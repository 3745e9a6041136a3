"""From a recording to probabilities: the one inference path of evaluation, batch prediction and the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import (
    AttendedSpans,
    PreprocessConfig,
    attention_mask,
    fully_attended,
    model_input,
    prepare_waveform,
)
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import ConfigError
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.config import Task
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one recording."""

    record_id: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """One per label: mean over the crops. For a regression the predicted numbers, in their own units."""
    thresholds: tuple[float, ...]
    """One per label, chosen on validation recordings and carried by the checkpoint; for `multi_label` only."""
    fingerprint: str
    """Of the checkpoint's weights."""
    task: Task = "multi_label"
    """Whether the labels exclude one another (`multi_class`), or are numbers (`regression`)."""
    findings: tuple[Finding, ...] = ()
    """What was noticed about the recording: leads that are missing, padding, samples that were filled in."""

    @property
    def positive(self) -> tuple[str, ...]:
        """The labels that apply: those whose probability reaches their threshold, or the most probable class."""
        if self.task == "regression":
            return ()
        if self.task == "multi_class":
            return (self.labels[int(np.argmax(self.probabilities))],)
        triples = zip(self.labels, self.probabilities, self.thresholds, strict=True)
        return tuple(label for label, probability, threshold in triples if probability >= threshold)

    def __str__(self) -> str:
        positive = self.positive
        lines = [
            f"{label:<12} {probability:6.3f}  {'positive' if label in positive else ''}".rstrip()
            for label, probability in zip(self.labels, self.probabilities, strict=True)
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
        # Masks mark the end of each lead; the published models' own rule counts samples from the first lead on.
        self.model.config.token_mask_rule = "majority"
        self.task: Task = model.config.task
        self.labels = tuple(info.label_names or ())
        self.thresholds = tuple(info.thresholds or [0.5] * len(self.labels))

    @classmethod
    def load(cls, checkpoint: str | Path, *, num_crops: int = 3, device: torch.device | str | None = None) -> Self:
        """From a directory that jobs.finetune wrote. Raises CheckpointError for a backbone without a head."""
        model, info = load_checkpoint(checkpoint, expect="classifier")
        return cls(model, info, num_crops=num_crops, device=device)

    def predict(self, recording: Recording) -> Prediction:
        """Filter, scale, crop and classify one recording, as evaluation does. Raises RecordingError when unusable."""
        recording = standard_12_lead(recording, missing=self.preprocess.missing_leads)
        waveform = prepare_waveform(recording, self.preprocess)
        probabilities = self.probabilities([waveform.counts], [waveform.valid_samples], [waveform.attended_s])[0]
        return Prediction(
            record_id=recording.record_id,
            labels=self.labels,
            probabilities=tuple(float(p) for p in probabilities),
            thresholds=self.thresholds,
            fingerprint=self.info.fingerprint,
            task=self.task,
            findings=(*recording.findings, *waveform.findings),
        )

    def probabilities(
        self,
        counts: Sequence[np.ndarray],
        valid_samples: Sequence[np.ndarray] | None = None,
        attended_s: Sequence[AttendedSpans] | None = None,
    ) -> np.ndarray:
        """Prepared waveforms, each [12, time] int16 -> [recording, label] float32, the mean over crops.

        `valid_samples`, each [12], and `attended_s` are those of `Waveform`; by default all was recorded. For a
        regression the predicted numbers.
        """
        recorded = [np.full(12, row.shape[1]) for row in counts] if valid_samples is None else valid_samples
        spans = [None] * len(counts) if attended_s is None else attended_s
        inputs, masks, crops = [], [], []
        for row, valid, attended in zip(counts, recorded, spans, strict=True):
            starts = np.array(self._crop_starts(int(valid.max())))
            several = np.broadcast_to(valid, (len(starts), 12))
            where = (several, [attended] * len(starts), starts, self.preprocess)
            inputs.append(
                model_input(np.broadcast_to(row, (len(starts), *row.shape)), starts, self.preprocess, several)
            )
            masks.append(None if fully_attended(*where) else attention_mask(*where))
            crops.append(len(starts))
        by_crop = self._outputs(np.concatenate(inputs), masks, crops)
        bounds = np.cumsum([0, *crops])
        return np.stack([by_crop[a:b].mean(axis=0) for a, b in pairwise(bounds)])

    def _outputs(self, inputs: np.ndarray, masks: list[np.ndarray | None], crops: list[int]) -> np.ndarray:
        """Inputs [crop, 12 * T] and the masks of each recording's crops -> [crop, label] float32."""
        mask = None
        if any(own is not None for own in masks):
            rows = [
                np.ones((number, inputs.shape[1]), bool) if own is None else own
                for own, number in zip(masks, crops, strict=True)
            ]
            mask = torch.from_numpy(np.concatenate(rows)).to(self.device)
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(inputs).to(self.device), attention_mask=mask).logits
            found: np.ndarray = self.model.probabilities(logits.float()).cpu().numpy()
        standard = (self.info.calibration or {}).get("standard") if self.task == "regression" else None
        if standard is None:
            return found
        # A regression is trained in terms of the mean and standard deviation of its training numbers.
        return (found * np.array(standard["std"]) + np.array(standard["mean"])).astype(np.float32)

    def _crop_starts(self, num_samples: int) -> list[float]:
        """Starts in seconds, from the first sample to the last that fits; one where there is no room for more."""
        room = (num_samples - self.preprocess.table_crop_samples) / self.preprocess.table_rate_hz
        if room <= 0:
            return [0.0]
        if self.num_crops == 1:
            return [room / 2]
        return [float(start) for start in np.linspace(0, room, self.num_crops)]
