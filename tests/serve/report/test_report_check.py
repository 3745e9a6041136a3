"""Reports are sorted into those that contradict the facts they are about and those that do not."""

from typing import Any

import pytest
import yaml

from serve.report.check import Contradiction, contradictions
from tests.serve.report.cases import CASES, HERE

WRITTEN: list[dict[str, Any]] = yaml.safe_load((HERE / "written.yaml").read_text())
UNSEEN: list[dict[str, Any]] = yaml.safe_load((HERE / "unseen.yaml").read_text())
LEAST_UNSEEN = 17
"""Of 20: what the check sorted right when it first met them."""


def found(report: dict[str, Any]) -> list[Contradiction]:
    return contradictions(report["text"], CASES[report["about"]])


def reasons(sentence: str, about: str) -> list[str]:
    return [hit.reason for hit in contradictions(sentence, CASES[about])]


@pytest.mark.parametrize("reports", [WRITTEN, UNSEEN], ids=["written", "unseen"])
def test_ten_of_twenty_reports_contradict_in_four_ways(reports: list[dict[str, Any]]) -> None:
    ways = [way for report in reports for way in report.get("odds", {})]
    assert (len(reports), len(ways)) == (20, 10)
    assert set(ways) == {"condition", "negation", "number", "laterality"}


@pytest.mark.parametrize("place", range(len(WRITTEN)))
def test_written_reports_are_sorted_without_error(place: int) -> None:
    report = WRITTEN[place]
    hits = found(report)
    assert len(hits) == ("odds" in report), hits
    for piece in report.get("odds", {}).values():
        assert str(piece) in hits[0].sentence


def test_unseen_reports_are_sorted_as_well_as_at_first_sight() -> None:
    right = [bool(found(report)) == ("odds" in report) for report in UNSEEN]
    assert sum(right) >= LEAST_UNSEEN


ODD = [
    ("fibrillation", "There is no atrial fibrillation."),
    ("fibrillation", "Atrial fibrillation was not detected."),
    ("fibrillation", "AF is unlikely."),
    ("fibrillation", "The model sees neither atrial fibrillation nor atrial flutter."),
    ("fibrillation", "The rhythm is regular."),
    ("fibrillation", "Sinus tachycardia with normal sinus rhythm."),
    ("fibrillation", "Atrial fibrillation is present, and so is atrial flutter."),
    ("fibrillation", "The ECG is normal."),
    ("fibrillation", "A left bundle branch block cannot be excluded."),
    ("fibrillation", "There may be atrial flutter."),
    ("fibrillation", "The PR interval is 160 ms."),
    ("fibrillation", "The PR interval is normal."),
    ("fibrillation", "The heart rate is normal."),
    ("fibrillation", "The heart rate is 181 bpm."),
    ("fibrillation", "The QRS complex is broad."),
    ("fibrillation", "There are signs of an acute myocardial infarction."),
    ("fibrillation", "Atrial fibrillation (49%)."),
    ("fibrillation", "Atrial fibrillation (6%) and atrial flutter (94%)."),
    ("normal", "The ECG is abnormal."),
    ("normal", "This is not a normal ECG."),
    ("normal", "There is a first-degree AV block."),
    ("normal", "Bradycardia at 68 bpm."),
    ("normal", "The QTc is prolonged."),
    ("normal", "The QRS lasts 0.12 s."),
    ("normal", "The axis is -55°."),
    ("normal", "There is left axis deviation."),
    ("left_block", "No bundle branch block is present."),
    ("left_block", "There is no left or right bundle branch block."),
    ("left_block", "The QRS is narrow."),
    ("left_block", "The QRS is not widened."),
    ("left_block", "The QT interval is not prolonged."),
    ("left_block", "The axis is normal."),
    ("left_block", "The block is on the right: complete RBBB."),
    ("right_block_and_long_pr", "AV block is absent."),
    ("right_block_and_long_pr", "The PR interval is normal at 236 ms."),
    ("right_block_and_long_pr", "The heart is beating at 57/min, a tachycardia."),
    ("right_block_and_long_pr", "The rate is within the normal range."),
    ("right_block_and_long_pr", "There is a second-degree AV block."),
    ("withheld", "Atrial fibrillation is present."),
    ("withheld", "There is no atrial fibrillation."),
    ("withheld", "The QRS duration is 90 ms."),
]

EVEN = [
    ("fibrillation", "Atrial fibrillation cannot be excluded."),
    ("fibrillation", "The model has no doubt that atrial fibrillation is present."),
    ("fibrillation", "There is no sinus rhythm."),
    ("fibrillation", "Not only is the rate high, atrial fibrillation is present."),
    ("fibrillation", "No P waves were seen, and atrial fibrillation is present."),
    ("fibrillation", "Atrial fibrillation is present, but a bundle branch block is not."),
    ("fibrillation", "Atrial fibrillation (94%) and atrial flutter (6%)."),
    ("fibrillation", "Atrial flutter has a probability below 10%."),
    ("fibrillation", "The rate is about 120 bpm, faster than normal."),
    ("fibrillation", "The rate is above the normal range of 60 to 100 per minute."),
    ("fibrillation", "No infarction is looked for, and none can be excluded."),
    ("fibrillation", "The rhythm is irregular."),
    ("normal", "Neither the PR interval nor the QTc is prolonged."),
    ("normal", "The heart beats neither too fast nor too slow."),
    ("normal", "There is no bradycardia, tachycardia or axis deviation."),
    ("normal", "A normal ECG does not rule out heart disease."),
    ("normal", "It could not be clearer: this is a normal ECG (0.97)."),
    ("normal", "In atrial fibrillation the pulse would be irregular."),
    ("normal", "Whether atrial fibrillation occurs at other times is not known."),
    ("normal", "QRS 0.09 s; PR 0.16 s."),
    ("normal", "The QTc of 417 ms is below the limit of 460 ms."),
    ("left_block", "Left bundle branch block is present rather than right bundle branch block."),
    ("left_block", "The QRS is wider than normal (more than 110 ms)."),
    ("left_block", "No right bundle branch block, but a left bundle branch block is seen."),
    ("left_block", "There is left axis deviation; the heart rate is normal."),
    ("right_block_and_long_pr", "There is a bundle branch block and an AV block."),
    ("right_block_and_long_pr", "The PR interval, 236 ms, is too long."),
    ("withheld", "Atrial fibrillation can neither be confirmed nor can its absence be told."),
    ("withheld", "Whether there is atrial fibrillation cannot be said."),
]


@pytest.mark.parametrize(("about", "sentence"), ODD)
def test_a_sentence_at_odds_is_flagged(about: str, sentence: str) -> None:
    assert reasons(sentence, about)


@pytest.mark.parametrize(("about", "sentence"), EVEN)
def test_a_true_sentence_is_let_be(about: str, sentence: str) -> None:
    assert reasons(sentence, about) == []


def test_a_reason_says_what_the_facts_are() -> None:
    (hit,) = contradictions("Good.\n\nThe *heart rate* is\n85 bpm.", CASES["left_block"])
    assert hit.reason == "The text gives 85 for the heart rate, which is 74 bpm."
