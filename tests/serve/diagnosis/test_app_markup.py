"""The answer as HTML: what is said, in which order of importance, and that nothing from outside becomes markup."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from serve.diagnosis import markup
from serve.diagnosis.wording import headline, verdict
from serve.report.facts import Facts, LabelFact, facts_of
from tests.serve.diagnosis.answers import AFIB, NORM, RATE, finding, prediction


def facts(**changes: Any) -> Facts:
    return facts_of(prediction(**changes), model="default", fingerprint="0123", task="multi_label")


def words(html: str) -> str:
    """What a reader sees."""
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_data = found.append  # type: ignore[method-assign]
    parser.feed(html)
    return re.sub(r"\s+", " ", " ".join(found)).strip()


def test_the_answer_comes_in_one_sentence_with_what_is_out_of_range() -> None:
    box = markup.answer_box(facts())
    assert "The model sees atrial fibrillation (probability 87%, threshold 40%)." in words(box)
    assert "Outside normal limits: heart rate 121 /min (high)." in words(box)
    assert 'class="hx-verdict alert"' in box


def test_a_normal_answer_is_good_news_and_a_withheld_one_no_news() -> None:
    normal = facts(labels=[NORM.model_copy(update={"probability": 0.95, "positive": True})], measurements=[])
    assert headline(normal) == ("The model sees normal ECG (probability 95%, threshold 50%).", "good")
    withheld = facts(abstained=True, abstain_reason="too noisy")
    assert headline(withheld) == ("The model's answer is withheld: too noisy.", "withheld")
    nothing = facts(labels=[NORM])
    assert headline(nothing)[1] == "plain"
    assert "None of the conditions" in headline(nothing)[0]


@pytest.mark.parametrize(
    ("probability", "threshold", "words_"),
    [
        (0.9, 0.5, "seen, well above the threshold"),
        (0.75, 0.5, "seen, well above the threshold"),
        (0.6, 0.5, "seen, just above the threshold"),
        (0.5, 0.5, "seen, just above the threshold"),
        (0.4, 0.5, "not seen, but near the threshold"),
        (0.1, 0.5, "not seen"),
    ],
)
def test_verdicts(probability: float, threshold: float, words_: str) -> None:
    label = LabelFact(
        name="X", title="x", probability=probability, threshold=threshold, positive=probability >= threshold,
        uncertainty=None,
    )  # fmt: skip
    assert verdict(label) == words_


def test_each_condition_has_its_probability_against_its_threshold() -> None:
    table = markup.conditions_table(facts())
    assert "Atrial fibrillation AFIB" in words(table)
    assert "87%" in words(table)
    assert "threshold 40%" in words(table)
    assert "width:87.0%" in table
    assert "left:40.0%" in table
    assert "Not seen" in words(table)
    # The word for what is seen is marked, and what it means is said; not for what is not seen.
    assert "quiver" in words(table)


def test_measurements_have_their_ranges_or_their_reasons() -> None:
    table = words(markup.measurements_table(facts().measurements or ()))
    assert "Heart rate 121 /min 60 to 100 /min high" in table
    assert "PR interval not measurable: no clear P wave" in table
    assert "QRS duration 92 ms up to 110 ms normal" in table


def test_quality_matters_when_it_limits_the_answer_and_not_otherwise() -> None:
    assert not markup.matters(facts())
    assert not markup.matters(facts(findings=[finding("info")]))
    assert markup.matters(facts(out_of_scope=["paced"]))
    noisy = facts(findings=[finding(start_s=1.0, end_s=2.5)])
    assert markup.matters(noisy)
    assert "Lead V2, noise: 0.07 mV of noise. (at 1.0 to 2.5 s)" in words(markup.quality_box(noisy))
    useless = facts(findings=[finding("severe", lead=None)])
    assert "Do not rely on this recording" in words(markup.quality_box(useless))
    many = markup.quality_box(facts(findings=[finding(lead=f"V{k}") for k in range(1, 7)] * 2))
    assert "7 more under" in words(many)


EVIL = "<img src=x onerror=alert(1)>"


def test_nothing_from_outside_becomes_markup() -> None:
    label = AFIB.model_copy(update={"label": EVIL, "title": EVIL})
    rate = RATE.model_copy(update={"value": None, "reason": EVIL})
    evil = facts(
        labels=[label], measurements=[rate], findings=[finding(kind=EVIL, detail=EVIL, lead=EVIL)],
        abstained=True, abstain_reason=EVIL,
    )  # fmt: skip
    pages = [
        markup.answer_box(evil),
        markup.conditions_table(evil),
        markup.measurements_table(evil.measurements or ()),
        markup.quality_box(evil),
        markup.findings_list(evil.findings),
        markup.report_html(f"{EVIL}\n\n![x](http://elsewhere/x.png)"),
    ]
    for page in pages:
        assert "<img" not in page
        assert "&lt;img" in page
