"""The report that needs no language model: the facts of one ECG as sentences, always the same for the same facts."""

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from serve.report.facts import Facts, LabelFact, MeasurementFact
from serve.report.vocabulary import concept_of

EXPLAINED = MappingProxyType(
    {
        "AFIB": "the upper chambers of the heart quiver instead of contracting together, and the pulse is irregular",
        "AFLT": "the upper chambers of the heart beat very fast, driven in a circle, and only some beats get through",
        "LBBB": "the signal reaches the left main chamber of the heart late",
        "RBBB": "the signal reaches the right main chamber of the heart late",
        "1AVB": "the signal takes long from the upper to the lower chambers of the heart, but it always gets through",
    }
)
SCOPE = MappingProxyType(
    {
        "age under 18": "the patient is under 18, and it learned from adults",
        "paced": "a pacemaker was active",
        "shorter than 5 s": "the recording is shorter than 5 s",
        "missing leads": "leads are missing",
    }
)
CLOSING = (
    "This text was made by research software. It is not a diagnosis: only a clinician who knows the patient and looks "
    "at the ECG itself can make one."
)
NOT_SHOWN = "Not shown, as the answer is withheld."
_UNITS = {"bpm": "beats per minute", "deg": "°"}
_MOST_FINDINGS = 6


def plain_report(facts: Facts) -> str:
    """Paragraphs separated by empty lines, most important first; the last says that it is not a diagnosis."""
    quality = _quality(facts)
    parts = [_withheld(facts), quality if facts.unusable or _severe(facts) else "", _scope(facts), _answer(facts)]
    parts += [_measured(facts), _unmeasured(facts), "" if quality in parts else quality, CLOSING]
    return "\n\n".join(part for part in parts if part)


def seen(facts: Facts) -> list[str]:
    """What the model says, a few words for each condition that it sees; or the one reason why nothing is to be said."""
    if facts.unanswered:
        return ["no model has judged this ECG"]
    if facts.abstained:
        return ["answer withheld"]
    if facts.task == "regression":
        return [f"{label.title} {label.probability:.4g}" for label in facts.labels]
    found = [f"{label.title} ({percent(label.probability)})" for label in facts.positive]
    return found or ["nothing above its threshold"]


def _severe(facts: Facts) -> bool:
    return any(each.severity == "severe" for each in facts.findings)


def _withheld(facts: Facts) -> str:
    if facts.unanswered:
        return f"No model has judged this ECG: {facts.unanswered}. Below is only what was measured in it."
    if not facts.abstained:
        return ""
    reason = f" ({facts.abstain_reason})" if facts.abstain_reason else ""
    return (
        f"The model's answer is withheld{reason}. Whether any of the conditions that it looks for is there cannot be "
        "judged from this recording. Please record the ECG again."
    )


def _quality(facts: Facts) -> str:
    noticed = [each for each in facts.findings if each.severity != "info"]
    if not noticed:
        return ""
    opening = "Signal quality: part of the recording is not to be relied on." if _severe(facts) else "Signal quality:"
    told = [
        f"{f'Lead {each.lead}' if each.lead else 'Whole recording'}, {each.kind}: {each.detail}" for each in noticed
    ]
    left = len(told) - _MOST_FINDINGS
    return " ".join([opening, *told[:_MOST_FINDINGS], *([f"Further remarks: {left}."] if left > 0 else [])])


def _scope(facts: Facts) -> str:
    if not facts.out_of_scope:
        return ""
    reasons = _listed([SCOPE.get(reason, reason) for reason in facts.out_of_scope])
    return f"Caution: the model was not made for a recording like this one, because {reasons}."


def _answer(facts: Facts) -> str:
    if not facts.judged:
        return ""
    if facts.task == "regression":
        return " ".join(f"Predicted {label.title}: {label.probability:.4g}." for label in facts.labels)
    if facts.task == "multi_class":
        return " ".join(_classes(facts))
    return " ".join([*_present(facts), *_absent([label for label in facts.labels if not label.positive])])


def _classes(facts: Facts) -> Iterator[str]:
    for label in facts.positive:
        yield f"Of {len(facts.labels)} classes, of which one applies, the model chooses {_told(label)}."
        if (concept := concept_of(label)) in EXPLAINED:
            yield f"This means that {EXPLAINED[concept]}."
    others = sorted((each for each in facts.labels if not each.positive), key=lambda each: -each.probability)
    if others:
        yield f"Not chosen: {_listed([_told(each) for each in others])}."


def _present(facts: Facts) -> Iterator[str]:
    if not facts.positive:
        yield "None of the conditions that the model looks for reaches its threshold."
    for label in facts.positive:
        verb = "counts this as a" if concept_of(label) == "NORM" else "sees"
        limit = "" if label.threshold is None else f"; the threshold is {percent(label.threshold)}"
        yield f"The model {verb} {_told(label)}{limit}."
        if (concept := concept_of(label)) in EXPLAINED:
            yield f"This means that {EXPLAINED[concept]}."


def _absent(labels: Sequence[LabelFact]) -> Iterator[str]:
    conditions = [label for label in labels if concept_of(label) != "NORM"]
    if conditions:
        yield f"The model does not see {_listed([_told(each) for each in conditions], last='or')}."
    for label in labels:
        if concept_of(label) == "NORM":
            yield f"It does not count this as a {_told(label)}."
    for label in conditions:
        if label.threshold and label.probability > label.threshold / 2:
            yield f"The probability of {label.title} is not far below its threshold of {percent(label.threshold)}."


def _told(label: LabelFact) -> str:
    spread = "" if label.uncertainty is None else f" ± {percent(label.uncertainty)}"
    return f"{label.title} (probability {percent(label.probability)}{spread})"


def percent(probability: float) -> str:
    """A probability as reports show it: whole per cent, tenths below 1% and above 99%, never 0% or 100%."""
    if probability < 0.0005:
        return "below 0.1%"
    if probability > 0.9995:
        return "above 99.9%"
    return f"{100 * probability:.{1 if probability < 0.01 or probability > 0.99 else 0}f}%"


def _measured(facts: Facts) -> str:
    found = [each for each in facts.measurements or () if each.value is not None]
    if not found:
        return ""
    return " ".join(["Measurements:", *(_measurement(each) for each in found)])


def _measurement(found: MeasurementFact) -> str:
    shown = f"{capital(found.title)} {found.rounded}{_unit(found)}"
    return f"{shown}, {found.verdict} ({_range(found)})." if found.verdict else f"{shown}."


def _range(found: MeasurementFact) -> str:
    low, high = found.normal_low, found.normal_high
    if low is None:
        return f"normal range up to {high:g}{_unit(found)}"
    if high is None:
        return f"normal range from {low:g}{_unit(found)}"
    return f"normal range {low:g} to {high:g}{_unit(found)}"


def _unit(found: MeasurementFact) -> str:
    words = _UNITS.get(found.unit, found.unit)
    return words if words == "°" else f" {words}"


def _unmeasured(facts: Facts) -> str:
    reasons: dict[str, list[str]] = {}
    for each in facts.measurements or ():
        if each.value is None:
            reasons.setdefault(each.reason or "no reason is known", []).append(each.title)
    told = [f"The {_listed(names)} could not be measured: {reason}." for reason, names in reasons.items()]
    return " ".join(told)


def capital(words: str) -> str:
    """With a capital first letter, the rest as it is."""
    return words[:1].upper() + words[1:]


def _listed(items: Sequence[str], last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
