"""The plain words of the page: how a probability stands to its threshold, and what the answer is in one sentence."""

from typing import Literal

from serve.report.facts import Facts, LabelFact
from serve.report.text import EXPLAINED, capital, percent
from serve.report.vocabulary import concept_of

NOTICE = (
    "This is research software, not a medical device: it can be wrong. Only a clinician who knows the "
    "patient and reads the ECG can make a diagnosis."
)
Tone = Literal["alert", "good", "plain", "withheld"]


def verdict(label: LabelFact) -> str:
    """How a probability stands to its threshold, `not seen` say."""
    if label.positive is None:
        return "predicted value"
    if label.threshold is None:
        return "chosen" if label.positive else "not chosen"
    if label.positive:
        clear = label.probability - label.threshold >= (1 - label.threshold) / 2
        return "seen, well above the threshold" if clear else "seen, just above the threshold"
    return "not seen, but near the threshold" if label.probability > label.threshold / 2 else "not seen"


def meaning(label: LabelFact) -> str:
    """What a condition is, in a sentence; empty where there are no words for it."""
    explained = EXPLAINED.get(concept_of(label), "")
    return f"{explained[0].upper()}{explained[1:]}." if explained else ""


def is_normal(label: LabelFact) -> bool:
    """Whether the label says that nothing is wrong."""
    return concept_of(label) == "NORM"


def shown_value(label: LabelFact) -> str:
    """The probability, or the number of a regression."""
    return f"{label.probability:.4g}" if label.positive is None else percent(label.probability)


def headline(facts: Facts) -> tuple[str, Tone]:
    """The answer in one sentence, and how it is to be taken."""
    if facts.abstained:
        reason = facts.abstain_reason or "the recording is not good enough"
        return f"The model's answer is withheld: {reason}.", "withheld"
    if facts.task == "regression":
        return "; ".join(f"{capital(label.title)}: {shown_value(label)}" for label in facts.labels) + ".", "plain"
    if not facts.positive:
        return "None of the conditions that the model looks for reaches its threshold.", "plain"
    named = ", ".join(f"{label.title} ({_measured(label)})" for label in facts.positive)
    tone: Tone = "good" if all(is_normal(label) for label in facts.positive) else "alert"
    return f"The model sees {named}.", tone


def _measured(label: LabelFact) -> str:
    limit = "" if label.threshold is None else f", threshold {percent(label.threshold)}"
    return f"probability {shown_value(label)}{limit}"
