"""Hand-written reports are sorted into those that contradict the facts they are about and those that do not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.report.check import contradictions
from serve.report.facts import Facts, facts_of
from serve.report.text import plain_report
from serve.schemas import FindingOut, LabelOut, MeasurementOut, PredictionOut
from hubert_ecg.ecg.simulate import CONDITION_TITLES

HERE = Path(__file__).parent
NAMES = ("heart_rate", "pr", "qrs", "qt", "qtc_bazett", "qtc_fridericia", "axis")
UNITS = {"heart_rate": "bpm", "axis": "deg"}


def measurement(name: str, said: list[Any] | str) -> MeasurementOut:
    value, unit, low, high = said if isinstance(said, list) else (None, UNITS.get(name, "ms"), None, None)
    reason = said if isinstance(said, str) else None
    return MeasurementOut(
        name=name, value=value, unit=unit, normal_low=low, normal_high=high, leads=[], reason=reason
    )


def facts_from(case: dict[str, Any]) -> Facts:
    labels = [
        LabelOut(label=name, title=CONDITION_TITLES[name], probability=p, threshold=limit, positive=p >= limit)
        for name, (p, limit) in case["labels"].items()
    ]
    prediction = PredictionOut(
        index=0,
        labels=labels,
        abstained="abstain_reason" in case,
        abstain_reason=case.get("abstain_reason"),
        out_of_scope=[],
        findings=[FindingOut(**finding) for finding in case.get("findings", [])],
        measurements=[measurement(name, case["measurements"][name]) for name in NAMES],
    )
    return facts_of(prediction, model="cond", fingerprint="9f3c", task="multi_label", **case["patient"])


CASES = {name: facts_from(case) for name, case in yaml.safe_load((HERE / "facts.yaml").read_text()).items()}
WRITTEN = yaml.safe_load((HERE / "written.yaml").read_text())
UNSEEN = yaml.safe_load((HERE / "unseen.yaml").read_text())


def found(report: dict[str, Any]) -> list[Any]:
    return contradictions(report["text"], CASES[report["about"]])


@pytest.mark.parametrize("place", range(len(WRITTEN)))
def test_written_reports_are_sorted_without_error(place: int) -> None:
    report = WRITTEN[place]
    hits = found(report)
    assert bool(hits) == ("odds" in report), hits
    for piece in report.get("odds", {}).values():
        assert any(str(piece) in hit.sentence for hit in hits), hits
