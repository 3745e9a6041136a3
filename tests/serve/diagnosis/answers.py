"""Answers of a service, as small as they can be."""

from typing import Any

from serve.diagnosis.service import Answer
from serve.schemas import FindingOut, LabelOut, MeasurementOut, PredictionOut

AFIB = LabelOut(label="AFIB", title="atrial fibrillation", probability=0.87, threshold=0.4, positive=True)
NORM = LabelOut(label="NORM", title="normal ECG", probability=0.03, threshold=0.5, positive=False)
RATE = MeasurementOut(name="heart_rate", value=121.4, unit="bpm", normal_low=60, normal_high=100, leads=[], reason=None)
PR = MeasurementOut(
    name="pr", value=None, unit="ms", normal_low=120, normal_high=200, leads=[], reason="no clear P wave"
)
QRS = MeasurementOut(name="qrs", value=92, unit="ms", normal_low=None, normal_high=110, leads=[], reason=None)


def prediction(**changes: Any) -> PredictionOut:
    """Atrial fibrillation at 121 beats per minute, nothing wrong with the signal, unless changed."""
    fields: dict[str, Any] = {
        "index": 0,
        "labels": [NORM, AFIB],
        "abstained": False,
        "abstain_reason": None,
        "out_of_scope": [],
        "findings": [],
        "measurements": [RATE, PR, QRS],
    }
    return PredictionOut(**(fields | changes))


def finding(severity: str = "warning", **changes: Any) -> FindingOut:
    fields = {"kind": "noise", "severity": severity, "detail": "0.07 mV of noise.", "lead": "V2"}
    return FindingOut(**(fields | {"start_s": None, "end_s": None} | changes))


def answer(**changes: Any) -> Answer:
    return Answer(prediction=prediction(**changes), model="default", fingerprint="0123", task="multi_label")
