"""What a report is made of: everything the service said of one ECG, and nothing that tells whose it is.

The plain text, the PDF, the message to a language model and the check of what it wrote all read these facts, so that
they cannot differ in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from hubert_ecg.ecg.finding import Finding
from serve.schemas import LabelOut, MeasurementOut, PredictionOut

Task = Literal["multi_label", "multi_class", "regression"]
Verdict = Literal["low", "normal", "high"]

MEASUREMENT_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "heart_rate": "heart rate",
        "pr": "PR interval",
        "qrs": "QRS duration",
        "qt": "QT interval",
        "qtc_bazett": "QTc (Bazett)",
        "qtc_fridericia": "QTc (Fridericia)",
        "axis": "QRS axis",
    }
)
UNIT_SIGNS: Mapping[str, str] = MappingProxyType({"bpm": "/min", "ms": "ms", "deg": "°"})


@dataclass(frozen=True, kw_only=True)
class LabelFact:
    """What the model says of one label."""

    name: str
    """As the checkpoint spells it, `AFIB` say."""
    title: str
    """In words where it is a known one; the name otherwise."""
    probability: float
    """0 to 1, calibrated where the checkpoint is; for a regression the predicted number, in its own unit."""
    threshold: float | None
    """From which probability on it counts as present; None where the task has no thresholds."""
    positive: bool | None
    """Whether it does; None for a regression."""
    uncertainty: float | None
    """Standard deviation of the probability over the crops of the recording; None where it is unknown."""


@dataclass(frozen=True, kw_only=True)
class MeasurementFact:
    """One measurement with its normal range, or the reason why there is none."""

    name: str
    """heart_rate, pr, qrs, qt, qtc_bazett, qtc_fridericia or axis."""
    value: float | None
    unit: str
    """bpm, ms or deg."""
    normal_low: float | None
    normal_high: float | None
    reason: str | None
    leads: tuple[str, ...] = ()
    """Those that, measured alone, agree."""

    @property
    def title(self) -> str:
        return MEASUREMENT_TITLES.get(self.name, self.name)

    @property
    def rounded(self) -> int | None:
        """The value as reports show it: in whole units, halves away from zero."""
        return None if self.value is None else int(abs(self.value) + 0.5) * (-1 if self.value < 0 else 1)

    @property
    def sign(self) -> str:
        """The unit as reports write it."""
        return UNIT_SIGNS.get(self.unit, self.unit)

    @property
    def verdict(self) -> Verdict | None:
        """Where the rounded value lies relative to the normal range: what is shown is what is judged.

        None without a value, or for a measurement that has no normal range.
        """
        shown = self.rounded
        if shown is None or (self.normal_low is None and self.normal_high is None):
            return None
        if self.normal_low is not None and shown < self.normal_low:
            return "low"
        return "high" if self.normal_high is not None and shown > self.normal_high else "normal"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that may be said of one ECG."""

    model: str
    """Name of the checkpoint in the service."""
    fingerprint: str
    """Of its weights and calibration."""
    task: Task
    labels: tuple[LabelFact, ...]
    measurements: tuple[MeasurementFact, ...] | None
    """None where they were not asked for."""
    findings: tuple[Finding, ...]
    """About the signal; most severe first."""
    out_of_scope: tuple[str, ...]
    """Why the model was not made for this recording; empty if it was."""
    abstained: bool
    """Whether the checkpoint's own rule withholds this answer."""
    abstain_reason: str | None
    age_years: float | None = None
    sex: Literal["female", "male"] | None = None
    duration_s: float | None = None
    unanswered: str | None = None
    """Why no model has judged the recording at all; then there are no labels, only what was measured."""

    @property
    def positive(self) -> tuple[LabelFact, ...]:
        """The labels that count as present, in the checkpoint's order."""
        return tuple(label for label in self.labels if label.positive)

    @property
    def judged(self) -> bool:
        """Whether there is an answer to show: a model gave one, and it is not withheld."""
        return self.unanswered is None and not self.abstained

    @property
    def unusable(self) -> bool:
        """Whether the diagnosis must not be relied on: the answer is withheld, or the whole recording is bad."""
        return self.abstained or any(each.severity == "severe" and each.lead is None for each in self.findings)

    def measurement(self, name: str) -> MeasurementFact | None:
        """A measurement by its name; None where it was not asked for."""
        return next((each for each in self.measurements or () if each.name == name), None)


_SEVERITIES = ("severe", "warning", "info")


def facts_of(
    prediction: PredictionOut,
    *,
    model: str,
    fingerprint: str,
    task: Task,
    age_years: float | None = None,
    sex: Literal["female", "male"] | None = None,
    duration_s: float | None = None,
    unanswered: str | None = None,
) -> Facts:
    """The facts of one answer, or of a recording that was only measured.

    Age, sex and duration are what the user or the file said; they identify nobody.
    """
    findings = [Finding(**each.model_dump()) for each in prediction.findings]
    measured = prediction.measurements
    return Facts(
        model=model,
        fingerprint=fingerprint,
        task=task,
        labels=tuple(_label(each) for each in prediction.labels),
        measurements=None if measured is None else tuple(_measurement(each) for each in measured),
        findings=tuple(sorted(findings, key=lambda each: _SEVERITIES.index(each.severity))),
        out_of_scope=tuple(prediction.out_of_scope),
        abstained=prediction.abstained,
        abstain_reason=prediction.abstain_reason,
        age_years=age_years,
        sex=sex,
        duration_s=duration_s,
        unanswered=unanswered,
    )


def _label(label: LabelOut) -> LabelFact:
    return LabelFact(
        name=label.label,
        title=label.title,
        probability=label.probability,
        threshold=label.threshold,
        positive=label.positive,
        uncertainty=label.uncertainty,
    )


def _measurement(found: MeasurementOut) -> MeasurementFact:
    return MeasurementFact(
        name=found.name,
        value=found.value,
        unit=found.unit,
        normal_low=found.normal_low,
        normal_high=found.normal_high,
        reason=found.reason,
        leads=tuple(found.leads),
    )
