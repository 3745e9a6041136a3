"""A classifier with all that its checkpoint carries, ready to apply to recordings and to prepared waveforms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from hubert_ecg.ecg.examine import all_findings, signal_problems
from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import AttendedSpans, PreprocessConfig, prepare_waveform
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.abstention import Abstention
from hubert_ecg.evaluation.calibration import Calibration
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.config import Task
from hubert_ecg.predictor.crops import CropConfig, Crops, cut
from hubert_ecg.predictor.embedding import check_layers, pooled
from hubert_ecg.predictor.prediction import Outputs, Prediction
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint

CROPS_AT_ONCE = 96
"""The model sees at most so many together, whatever number of recordings they are of: memory is bounded by it."""


class Predictor:
    """A classifier with its preprocessing, calibration, thresholds and labels.

    Nothing changes after it is made, so that several threads may use one.
    """

    def __init__(
        self,
        model: HubertECGClassifier,
        info: CheckpointInfo,
        *,
        crops: CropConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """`crops`: by default three, evenly spread, and their mean; `device`: by default a GPU if there is one."""
        self.info = info
        self.crops = crops or CropConfig()
        self.preprocess = PreprocessConfig.from_dict(info.preprocessing)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.eval().requires_grad_(False).to(self.device)
        # Masks mark the end of each lead; the published models' own rule counts samples from the first lead on.
        self.model.config.token_mask_rule = "majority"
        self.task: Task = model.config.task
        if self.crops.reduce == "max" and self.task != "multi_label":
            raise ConfigError(f"reduce: the maximum over crops is for independent labels, this is a {self.task} model")
        self.labels = tuple(info.label_names or ())
        carried = info.calibration or {}
        self.calibration = Calibration.from_json(carried["probabilities"]) if "probabilities" in carried else None
        self.rule = Abstention.from_json(carried["abstention"]) if "abstention" in carried else None
        self.thresholds = tuple(info.thresholds or [0.5] * len(self.labels))

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        crops: CropConfig | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """From a directory that jobs.finetune wrote. Raises CheckpointError for a backbone without a head."""
        model, info = load_checkpoint(checkpoint, expect="classifier")
        return cls(model, info, crops=crops, device=device)

    def predict(self, recording: Recording) -> Prediction:
        """Filter, scale, crop and classify one recording, as evaluation does. Raises RecordingError when unusable."""
        recording = standard_12_lead(recording, missing=self.preprocess.missing_leads)
        problems = signal_problems(recording, missing_leads=self.preprocess.missing_leads)
        waveform = prepare_waveform(recording, self.preprocess)
        outputs = self.apply([waveform.counts], [waveform.valid_samples], [waveform.attended_s])
        findings = all_findings(recording, problems, waveform.findings)
        return Prediction(
            record_id=recording.record_id,
            labels=self.labels,
            probabilities=tuple(outputs.probabilities[0].tolist()),
            raw=tuple(outputs.raw[0].tolist()),
            spread=tuple(outputs.spread[0].tolist()),
            thresholds=self.thresholds,
            fingerprint=self.info.fingerprint,
            task=self.task,
            findings=findings,
            abstained=self.abstention(findings, outputs.spread[0].tolist()),
        )

    def probabilities(
        self,
        counts: Sequence[np.ndarray],
        valid_samples: Sequence[np.ndarray] | None = None,
        attended_s: Sequence[AttendedSpans] | None = None,
    ) -> np.ndarray:
        """The probabilities alone, [recording, label] float32; see `apply`."""
        return self.apply(counts, valid_samples, attended_s).probabilities

    def apply(
        self,
        counts: Sequence[np.ndarray],
        valid_samples: Sequence[np.ndarray] | None = None,
        attended_s: Sequence[AttendedSpans] | None = None,
        *,
        layers: Sequence[int] = (),
    ) -> Outputs:
        """What the model says of prepared waveforms, each [12, time] int16, one or more.

        `valid_samples`, each [12], and `attended_s` are those of `Waveform`; by default all was recorded. `layers`:
        encoder layers whose pooled outputs are wanted as well. The same waveforms in the same order give the same
        numbers to the last bit, and with others beside them numbers within 1e-5.
        """
        check_layers(layers, self.model.config.num_hidden_layers)
        crops = cut(counts, valid_samples, attended_s, self.crops, self.preprocess)
        pieces = [self._forward(crops, at, layers) for at in range(0, len(crops.inputs), CROPS_AT_ONCE)]
        by_crop, *hidden = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
        raw = np.stack([getattr(by_crop[a:b], self.crops.reduce)(axis=0) for a, b in crops.bounds])
        unknown = np.full(by_crop.shape[1], np.nan, np.float32)
        return Outputs(
            probabilities=raw if self.calibration is None else self.calibration.apply(raw),
            raw=raw,
            spread=np.stack([by_crop[a:b].std(axis=0) if b - a > 1 else unknown for a, b in crops.bounds]),
            embeddings={
                layer: np.stack([of_layer[a:b].mean(axis=0) for a, b in crops.bounds])
                for layer, of_layer in zip(layers, hidden, strict=True)
            },
        )

    def _forward(self, crops: Crops, first: int, layers: Sequence[int]) -> list[np.ndarray]:
        """[crop, label] float32 of some crops, and [crop, D] of each layer."""
        chosen = slice(first, first + CROPS_AT_ONCE)
        inputs = torch.from_numpy(crops.inputs[chosen]).to(self.device)
        mask = None if crops.mask is None else torch.from_numpy(crops.mask[chosen]).to(self.device)
        with torch.inference_mode():
            encoded = self.model.hubert_ecg.encode(inputs, mask, output_hidden_states=bool(layers))
            logits = self.model.scores(self.model.pool(encoded.last_hidden_state, mask))
            found: np.ndarray = self.model.probabilities(logits.float()).cpu().numpy()
            hidden = pooled(self.model.hubert_ecg, encoded, mask, layers)
        standard = (self.info.calibration or {}).get("standard") if self.task == "regression" else None
        if standard is not None:
            # A regression is trained in terms of the mean and standard deviation of its training numbers.
            found = (found * np.array(standard["std"]) + np.array(standard["mean"])).astype(np.float32)
        return [found, *hidden]

    def abstention(self, findings: Sequence[Finding], spread: Sequence[float]) -> str | None:
        """Why the prediction of a recording with these findings and [label] spread is to be withheld; None: it is not.

        The rule is the checkpoint's; one without a rule withholds nothing.
        """
        return None if self.rule is None else self.rule.reason(findings, spread, self.labels)
