"""What a classifier says: of one recording, with names, and of many, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.models.config import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """What a classifier says of some recordings. Shapes: N recordings, L labels, D hidden size."""

    probabilities: np.ndarray
    """[N, L] float32, calibrated where the checkpoint is; for a regression the numbers, in their own units."""
    raw: np.ndarray
    """[N, L] float32: the mean or maximum over the crops before calibration; the same array where there is none."""
    spread: np.ndarray
    """[N, L] float32: standard deviation over the crops, before calibration; NaN for recordings of one crop."""
    embeddings: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Encoder layer (see embedding.py) -> [N, D] float32: the mean over the tokens that count and over the crops."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one recording."""

    record_id: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """One per label, calibrated where the checkpoint is. For a regression the predicted numbers, in their own units."""
    thresholds: tuple[float, ...]
    """One per label, chosen on validation recordings and carried by the checkpoint; for `multi_label` only."""
    fingerprint: str
    """Of the checkpoint's weights."""
    task: Task = "multi_label"
    """Whether the labels exclude one another (`multi_class`), or are numbers (`regression`)."""
    findings: tuple[Finding, ...] = ()
    """What was noticed about the recording: signal quality, leads that are missing, padding, samples filled in."""
    raw: tuple[float, ...] = ()
    """The probabilities before calibration."""
    spread: tuple[float, ...] = ()
    """Standard deviation of each over the crops; NaN where there was one."""
    abstained: str | None = None
    """Why the prediction is to be withheld, by the checkpoint's rule on signal quality and spread; None: it is not."""

    @property
    def positive(self) -> tuple[str, ...]:
        """The labels that apply: those whose probability reaches their threshold, or the most probable class."""
        return positive_labels(self.labels, self.probabilities, self.thresholds, self.task)

    def __str__(self) -> str:
        positive = self.positive
        lines = [
            f"{label:<12} {probability:6.3f}  {'positive' if label in positive else ''}".rstrip()
            for label, probability in zip(self.labels, self.probabilities, strict=True)
        ]
        withheld = [] if self.abstained is None else [f"not to be relied on: {self.abstained}"]
        return "\n".join([self.record_id or "recording", *lines, *withheld])


def positive_labels(
    labels: Sequence[str], probabilities: Sequence[float], thresholds: Sequence[float], task: Task
) -> tuple[str, ...]:
    """The labels that apply to a recording; none for a regression."""
    if task == "regression":
        return ()
    if task == "multi_class":
        return (labels[int(np.argmax(probabilities))],)
    triples = zip(labels, probabilities, thresholds, strict=True)
    return tuple(label for label, probability, threshold in triples if probability >= threshold)
