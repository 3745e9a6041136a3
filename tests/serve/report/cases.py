"""Facts of reports: those of facts.yaml, and of any ECG."""

from pathlib import Path
from typing import Any

import yaml

from hubert_ecg.ecg.measure import normal_range
from hubert_ecg.ecg.simulate import CONDITION_TITLES
from serve.report.facts import Facts, facts_of
from serve.schemas import FindingOut, LabelOut, MeasurementOut, PredictionOut

HERE = Path(__file__).parent
MEASURED = ("heart_rate", "pr", "qrs", "qt", "qtc_bazett", "qtc_fridericia", "axis")
UNITS = {"heart_rate": "bpm", "axis": "deg"}


def label(name: str, probability: float, threshold: float | None, positive: bool | None, **more: Any) -> LabelOut:
    title = CONDITION_TITLES.get(name, name)
    return LabelOut(label=name, title=title, probability=probability, threshold=threshold, positive=positive, **more)


def measurement(name: str, said: float | str, sex: str | None = None) -> MeasurementOut:
    """A value, or the reason why there is none."""
    low, high = normal_range(name, sex)
    return MeasurementOut(
        name=name,
        value=None if isinstance(said, str) else said,
        unit=UNITS.get(name, "ms"),
        normal_low=low,
        normal_high=high,
        leads=[],
        reason=said if isinstance(said, str) else None,
    )


def _facts(case: dict[str, Any]) -> Facts:
    said = case["measurements"]
    prediction = PredictionOut(
        index=0,
        labels=[label(name, p, limit, p >= limit) for name, (p, limit) in case["labels"].items()],
        abstained="abstain_reason" in case,
        abstain_reason=case.get("abstain_reason"),
        out_of_scope=[],
        findings=[FindingOut(**finding) for finding in case.get("findings", [])],
        measurements=[measurement(name, said[name], case["patient"].get("sex")) for name in MEASURED],
    )
    return facts_of(prediction, model="cond", fingerprint="9f3c77", task="multi_label", **case["patient"])


CASES = {name: _facts(case) for name, case in yaml.safe_load((HERE / "facts.yaml").read_text()).items()}
