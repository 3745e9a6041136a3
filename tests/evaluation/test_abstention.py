"""When predictions are withheld, by hand."""

import json

import pytest

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.abstention import Abstention

LABELS = ("A", "B")
CALM = (0.1, 0.1)


def severe(kind: str, lead: str | None) -> Finding:
    return Finding(kind=kind, severity="severe", detail="", lead=lead)


def test_a_rule_without_limits_withholds_nothing() -> None:
    assert Abstention().reason([severe("wrong units", None), severe("flat", "V1")], (0.5, 0.5), LABELS) is None


def test_quality_counts_leads_once_and_whole_recordings_always() -> None:
    rule = Abstention(severe_leads=2)
    warning = Finding(kind="noise", severity="warning", detail="", lead="V3")
    one_lead = [severe("flat", "V1"), severe("noise", "V1"), warning]
    assert rule.reason(one_lead, CALM, LABELS) is None
    assert rule.reason([severe("flat", "V1"), severe("noise", "V2")], CALM, LABELS) == "quality: flat V1, noise V2"
    assert rule.reason([severe("wrong units", None)], CALM, LABELS) == "quality: wrong units"


def test_uncertainty_names_the_label_that_is_farthest_beyond_its_limit() -> None:
    rule = Abstention(max_spread=(0.2, 0.05))
    assert rule.reason([], (0.2, 0.05), LABELS) is None
    said = rule.reason([], (0.21, 0.15), LABELS)
    assert said == "uncertain: B spreads by 0.150 over the crops, more than 0.050"
    assert rule.reason([], (float("nan"), float("nan")), LABELS) is None
    assert rule.reason([], (float("nan"), 0.15), LABELS) == said


@pytest.mark.parametrize("rule", [Abstention(), Abstention(severe_leads=3, max_spread=(0.1, 0.2))])
def test_a_rule_survives_json(rule: Abstention) -> None:
    assert Abstention.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_impossible_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 lead"):
        Abstention(severe_leads=0)
    with pytest.raises(ConfigError, match="limits of 0 or more"):
        Abstention(max_spread=(float("nan"),))
    with pytest.raises(ConfigError, match="wanted 2 limits, one per label, got 1"):
        Abstention(max_spread=(0.1,)).reason([], CALM, LABELS)
    with pytest.raises(ConfigError, match="abstention: wanted max_spread, severe_leads"):
        Abstention.from_json({"spread": 1})
