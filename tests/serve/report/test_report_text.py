"""The report that needs no language model: what it says, in which order, and that it never contradicts its facts."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.ecg.measure import measure
from hubert_ecg.ecg.quality import find_problems
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from serve.report.check import contradictions
from serve.report.facts import Facts, facts_of
from serve.report.text import CLOSING, percent, plain_report
from serve.schemas import FindingOut, LabelOut, PredictionOut
from tests.serve.report.cases import CASES, MEASURED, label, measurement

OTHER_NAMES = ("STACH", "LVH", "IRBBB", "164889003", "Q wave abnormal", "SEHR SELTEN", "klass-3", "Étiquette")
REASONS = (
    "no P wave before the QRS",
    "no clear T wave",
    "no P wave that is the same before each QRS (fibrillation, noise or a block)",
    "waves like the P wave follow one another (flutter, or P on T)",
    "fewer than three beats of one shape",
    "leads disagree: 2 of 12 near 148 ms",
    "found 420 ms, outside 80-400 ms",
    "the QRS is as much up as down in the limb leads (indeterminate axis)",
)
FINDINGS = (
    FindingOut(
        kind="lead off", severity="severe", lead="V1", detail="98% of the lead is flat at 0 mV: its electrode was off."
    ),
    FindingOut(kind="noise", severity="warning", lead="II", detail="Fast noise of up to 0.12 mV root mean square."),
    FindingOut(kind="mains", severity="warning", lead="V4", detail="Mains hum of 50 Hz, 0.2 mV peak to peak."),
    FindingOut(kind="derived lead", severity="info", lead="III", detail="Lead III was derived from I and II."),
    FindingOut(
        kind="limb leads inconsistent",
        severity="severe",
        detail="I + III = II: off by up to 0.4 mV, 60% of the limb leads' own size.",
    ),
)
SPANS = {"heart_rate": (20, 260), "axis": (-180, 180)}


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Facts as the service may say them, whether or not a heart could bring them about."""
    task: Any = draw(st.sampled_from(["multi_label", "multi_class", "regression"]))
    names = draw(st.lists(st.sampled_from([*CONDITIONS, *OTHER_NAMES]), min_size=1, max_size=8, unique=True))
    chance = st.floats(0, 1)
    if task == "regression":
        values = draw(st.lists(st.floats(-1e4, 1e4, allow_subnormal=False), min_size=len(names), max_size=len(names)))
        labels = [label(name, value, None, None) for name, value in zip(names, values, strict=True)]
    else:
        labels = draw_labels(draw, names, task, chance)
    sex: Any = draw(st.sampled_from([None, "female", "male"]))
    measured = [
        measurement(name, draw(st.sampled_from(REASONS) | st.floats(*SPANS.get(name, (40, 650)))), sex)
        for name in MEASURED
    ]
    abstained = draw(st.booleans())
    prediction = PredictionOut(
        index=0,
        labels=labels,
        abstained=abstained,
        abstain_reason="uncertain: AFIB spreads by 0.213 over the crops, more than 0.150" if abstained else None,
        out_of_scope=draw(st.lists(st.sampled_from(["age under 18", "paced", "missing leads"]), unique=True)),
        findings=draw(st.lists(st.sampled_from(FINDINGS), max_size=9)),
        measurements=draw(st.sampled_from([None, measured])),
    )
    return facts_of(prediction, model="m", fingerprint="f", task=task, sex=sex)


def draw_labels(draw: st.DrawFn, names: list[str], task: str, chance: st.SearchStrategy[float]) -> list[LabelOut]:
    chances = [draw(chance) for _ in names]
    limits = [draw(chance) if task == "multi_label" else None for _ in names]
    best = chances.index(max(chances))
    return [
        label(
            names[i],
            chances[i],
            limits[i],
            i == best if (limit := limits[i]) is None else chances[i] >= limit,
            uncertainty=draw(st.none() | st.floats(0, 0.3)),
        )
        for i in range(len(names))
    ]


@settings(max_examples=60, deadline=None)
@given(any_facts())
def test_it_never_contradicts_its_facts(facts: Facts) -> None:
    report = plain_report(facts)
    assert contradictions(report, facts) == []
    assert report.endswith(CLOSING)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_it_does_not_contradict_what_was_measured_of_simulated_ecgs(condition: str) -> None:
    for seed in range(3):
        (recording, *_) = simulate_condition([condition], seed=seed)
        found = measure(recording).to_dict()
        facts = facts_of(
            PredictionOut(
                index=0,
                labels=[label(name, 0.9 if name == condition else 0.05, 0.4, name == condition) for name in CONDITIONS],
                abstained=False,
                abstain_reason=None,
                out_of_scope=[],
                findings=[FindingOut(**each.to_dict()) for each in find_problems(recording)],
                measurements=[measurement(name, found[name]["value"] or found[name]["reason"]) for name in MEASURED],
            ),
            model="m",
            fingerprint="f",
            task="multi_label",
        )
        assert contradictions(plain_report(facts), facts) == []


def test_a_report_of_other_facts_contradicts() -> None:
    for about, facts in CASES.items():
        for other, theirs in CASES.items():
            if about != other:
                assert contradictions(plain_report(theirs), facts), (about, other)


def test_what_is_wrong_with_the_signal_comes_first_where_it_matters() -> None:
    paragraphs = plain_report(CASES["withheld"]).split("\n\n")
    assert paragraphs[0].startswith("The model's answer is withheld")
    assert paragraphs[1].startswith("Signal quality: part of the recording is not to be relied on. Lead V1, lead off:")
    assert "%" not in "".join(paragraphs[2:])  # no probability of what is withheld
    mild = plain_report(CASES["flutter"]).split("\n\n")
    assert mild[0].startswith("The model sees atrial flutter (probability 83%); the threshold is 22%.")
    assert mild[-2].startswith("Signal quality: Lead V3, noise:")


def test_measurements_say_where_they_lie_and_what_could_not_be_had() -> None:
    report = plain_report(CASES["right_block_and_long_pr"])
    assert "Heart rate 57 beats per minute, low (normal range 60 to 100 beats per minute)." in report
    assert "PR interval 236 ms, high (normal range 120 to 200 ms)." in report
    assert "QRS axis 98°, high (normal range -30 to 90°)." in report
    assert "The PR interval could not be measured: no P wave before the QRS." in plain_report(CASES["fibrillation"])


def test_own_labels_classes_and_numbers_are_told() -> None:
    classes = replace(
        CASES["normal"],
        task="multi_class",
        labels=tuple(
            replace(each, name=f"stage {i}", title=f"stage {i}", positive=i == 1, threshold=None)
            for i, each in enumerate(CASES["normal"].labels[:3])
        ),
    )
    assert "Of 3 classes, of which one applies, the model chooses stage 1 (probability 1%)." in plain_report(classes)
    age = replace(classes.labels[0], name="age", title="age", probability=63.25, positive=None)
    assert "Predicted age: 63.25." in plain_report(replace(classes, task="regression", labels=(age,)))


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "below 0.1%"), (0.004, "0.4%"), (0.03, "3%"), (0.125, "12%"), (0.996, "99.6%"), (1.0, "above 99.9%")],
)
def test_no_probability_is_shown_as_certain(probability: float, shown: str) -> None:
    assert percent(probability) == shown
