"""Explanations: which samples of which lead speak for a label, by integrated gradients.

Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017; computed by captum. What is explained is
the score of a label before the sigmoid or softmax, the mean over the crops of a prediction. The baseline is the same
recording with every lead flat at its own median, the isoelectric line: a heart that does nothing. An input of zeros
would be no such thing: leads are scaled by their extremes, so that 0 is a voltage somewhere between them, and the
model's norms blow the smallest deflections up. A classifier of bundle branch blocks had scores of -38 and 8 there, of
3.5 and -11 on flat leads; of the attributions' size 58 % lay in the quarter of time that held QRS complexes with flat
leads, 32 % with zeros.

Samples that were not recorded are zero in both, and so is what is attributed to them.
Shapes: C crops, L leads, T samples of a crop.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hubert_ecg.ecg.preprocess import AttendedSpans, prepare_waveform
from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording, standard_12_lead
from hubert_ecg.errors import ConfigError
from hubert_ecg.predictor.crops import cut_at
from hubert_ecg.predictor.predictor import Predictor

NUM_STEPS = 32
"""Points of the path from baseline to recording at which gradients are taken. The error of completeness is then about
1 % of the difference in scores; at 16 points it is twice that."""

Score = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Inputs [C, L * T] and their mask -> [C] scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What each sample of a recording contributes to the score of one label."""

    label: str
    attributions: np.ndarray
    """[12, time] float32 at `sampling_rate_hz`, in units of the score; positive: speaks for the label. 0 outside of the
    crops."""
    sampling_rate_hz: float
    """Rate of the model's input."""
    score: float
    """Of the recording: before the sigmoid or softmax, the mean over the crops; for a regression the number itself."""
    baseline_score: float
    """Of the recording with every lead flat."""
    crop_starts_s: tuple[float, ...]
    """Where the crops of 5 s begin that were looked at."""

    @property
    def completeness_error(self) -> float:
        """By how much the attributions miss the difference of the scores, which they should sum to."""
        return abs(float(self.attributions.sum(dtype=np.float64)) - (self.score - self.baseline_score))


class Explainer:
    """Explains what a predictor says. Nothing changes after it is made."""

    def __init__(self, predictor: Predictor, *, num_steps: int = NUM_STEPS, steps_at_once: int = 32) -> None:
        """`steps_at_once`: inputs that the model sees together; memory grows with it."""
        if num_steps < 1 or steps_at_once < 1:
            raise ConfigError(f"wanted num_steps and steps_at_once of at least 1, got {num_steps} and {steps_at_once}")
        self.predictor, self.num_steps, self.steps_at_once = predictor, num_steps, steps_at_once

    def explain(self, recording: Recording, label: str) -> Explanation:
        """Explain one recording. Raises RecordingError when it is unusable, ConfigError for an unknown label."""
        preprocess = self.predictor.preprocess
        waveform = prepare_waveform(standard_12_lead(recording, missing=preprocess.missing_leads), preprocess)
        return self.explain_waveform(waveform.counts, label, waveform.valid_samples, waveform.attended_s)

    def explain_waveform(
        self,
        counts: np.ndarray,
        label: str,
        valid_samples: np.ndarray | None = None,
        attended_s: AttendedSpans = None,
    ) -> Explanation:
        """Explain a prepared waveform [12, time] int16; the other arguments are those of `Waveform`."""
        predictor = self.predictor
        if label not in predictor.labels:
            raise ConfigError(f"label: wanted one of {', '.join(predictor.labels)}, got {label!r}")
        valid = np.full(12, counts.shape[1]) if valid_samples is None else valid_samples
        starts_s = predictor.crops.starts_s(int(valid.max()), predictor.preprocess)
        crops, flat = (
            cut_at(row, valid, attended_s, starts_s, predictor.preprocess) for row in (counts, flattened(counts, valid))
        )
        inputs, baselines = (torch.from_numpy(of.inputs).to(predictor.device) for of in (crops, flat))
        mask = None if crops.mask is None else torch.from_numpy(crops.mask).to(predictor.device)
        score = self._score(predictor.labels.index(label))
        with torch.inference_mode():
            scores = [float(score(values, mask).mean()) for values in (inputs, baselines)]
        found = integrated_gradients(
            score, inputs, baselines, mask, num_steps=self.num_steps, at_once=self.steps_at_once
        )
        return Explanation(
            label=label,
            attributions=self._placed(found.cpu().numpy(), starts_s, counts.shape[1]),
            sampling_rate_hz=predictor.preprocess.sampling_rate_hz,
            score=scores[0],
            baseline_score=scores[1],
            crop_starts_s=tuple(starts_s.tolist()),
        )

    def _score(self, column: int) -> Score:
        standard = (self.predictor.info.calibration or {}).get("standard") or {}
        regression = self.predictor.task == "regression" and standard
        scale, offset = (standard["std"][column], standard["mean"][column]) if regression else (1.0, 0.0)

        def score(inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            logits: torch.Tensor = self.predictor.model(inputs, attention_mask=mask).logits
            return logits[:, column].float() * scale + offset

        return score

    def _placed(self, by_crop: np.ndarray, starts_s: np.ndarray, table_samples: int) -> np.ndarray:
        """[C, L * T] of each crop -> [12, time] of the recording; what crops share is added up, for their mean."""
        preprocess = self.predictor.preprocess
        step = preprocess.table_rate_hz // preprocess.sampling_rate_hz
        length = preprocess.crop_samples
        firsts = np.rint(starts_s * preprocess.table_rate_hz).astype(int) // step
        placed = np.zeros((len(STANDARD_LEADS), max(table_samples // step, int(firsts.max()) + length)), np.float32)
        for first, of_crop in zip(firsts.tolist(), by_crop, strict=True):
            placed[:, first : first + length] += of_crop.reshape(12, length) / len(by_crop)
        return placed


def flattened(counts: np.ndarray, valid_samples: np.ndarray) -> np.ndarray:
    """The baseline of a waveform [12, time]: each lead at the median of what was recorded of it, else 0."""
    flat = np.zeros_like(counts)
    for lead, recorded in enumerate(valid_samples.tolist()):
        if recorded:
            flat[lead, :recorded] = np.median(counts[lead, :recorded])
    return flat


def integrated_gradients(
    score: Score,
    inputs: torch.Tensor,
    baselines: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    num_steps: int,
    at_once: int,
) -> torch.Tensor:
    """[C, L * T] attributions of each crop, by Gauss-Legendre quadrature along the line from its baseline."""
    from captum.attr import IntegratedGradients

    def forward(values: torch.Tensor, *repeated_mask: torch.Tensor) -> torch.Tensor:
        return score(values, *(repeated_mask or (None,)))

    found: torch.Tensor = IntegratedGradients(forward).attribute(
        inputs,
        baselines,
        additional_forward_args=None if mask is None else (mask,),
        n_steps=num_steps,
        internal_batch_size=max(at_once, len(inputs)),
    )
    return found.detach().float()
