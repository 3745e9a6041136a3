"""What a sentence says of conditions and their probabilities, against what the model says of them."""

import re
from collections.abc import Iterator, Sequence

from serve.report.facts import Facts, LabelFact
from serve.report.numbers import Number, numbers
from serve.report.polarity import Polarity, polarity
from serve.report.vocabulary import CONCEPT_TITLES, OTHERS, Mention, concept_of, mentions

_NEAR_THRESHOLD = 0.5
"""From this part of its threshold on, a label that is not positive may be called possible."""
_THRESHOLD = re.compile(r"\b(?:threshold|level|cut-?off|from which|limit|upwards|onwards)\b", re.IGNORECASE)
_SPEAKS_OF_PROBABILITY = re.compile(
    r"\b(?:probab\w+|likel\w+|confiden\w+|certain\w*|sure|chance|score|threshold|model)\b", re.IGNORECASE
)
_KINDS = {"BBB": ("LBBB", "RBBB"), "AVB": ("1AVB",), "SINUS": ("AFIB", "AFLT"), "REGULAR": ("AFIB",)}
"""Concepts that the model has no label for -> those that tell whether they hold."""


def wrong_conditions(sentence: str, facts: Facts) -> Iterator[str]:
    """Conditions that are asserted though the model does not see them, or denied though it does."""
    if facts.task == "regression":
        return
    found = mentions(sentence, facts.labels)
    said: Polarity | None = None
    for mention in found:
        said = polarity(sentence, mention, found, said)
        if said != "open":
            reason = _odds(mention, said, facts)
            if reason:
                yield reason


def _odds(mention: Mention, said: Polarity, facts: Facts) -> str | None:
    title = _title(mention, facts)
    known = _labels(mention, facts)
    if not known:
        if said != "asserted" or mention.concepts[0] in ("SINUS", "REGULAR", "NORM", "BBB"):
            return None
        return f"The text speaks of {title}, which the model does not look for."
    if facts.abstained:
        spoken = {"asserted": "that there is", "denied": "that there is not", "possible": "that there may be"}[said]
        return f"The text says {spoken} {title}, but the model's answer is withheld."
    if mention.concepts[0] in ("SINUS", "REGULAR"):
        seen = [label.title for label in known if label.positive]
        return f"The text speaks of {title}, but the model sees {seen[0]}." if seen and said == "asserted" else None
    seen_any = any(label.positive for label in known)
    if said == "denied" and seen_any:
        return f"The text denies {title}, but the model sees it."
    if said == "asserted" and not seen_any:
        return f"The text says that there is {title}, but the model does not see it."
    if said == "possible" and not seen_any and not any(_near(label) for label in known):
        return f"The text calls {title} possible, but the model does not see it."
    return None


def _near(label: LabelFact) -> bool:
    return label.threshold is not None and label.probability >= _NEAR_THRESHOLD * label.threshold


def _labels(mention: Mention, facts: Facts) -> list[LabelFact]:
    wanted = {each for concept in mention.concepts for each in _KINDS.get(concept, (concept,))}
    return [label for label in facts.labels if concept_of(label) in wanted]


def _title(mention: Mention, facts: Facts) -> str:
    concept = mention.concepts[0]
    if concept.startswith("label:"):
        return _labels(mention, facts)[0].title
    titles = [CONCEPT_TITLES.get(each) or OTHERS[each] for each in mention.concepts]
    return " or ".join(titles)


def wrong_probabilities(sentence: str, facts: Facts) -> Iterator[str]:
    """Probabilities that belong to no label that the sentence speaks of; of a regression, numbers not its own."""
    found = [mention for mention in mentions(sentence, facts.labels) if _labels(mention, facts)]
    if facts.task == "regression":
        yield from _wrong_predictions(sentence, found, facts)
        return
    about_labels = bool(found) or bool(_SPEAKS_OF_PROBABILITY.search(sentence))
    if not about_labels:
        return
    stated = [number for number in numbers(sentence) if _is_probability(number, sentence, found)]
    for number in stated:
        if not any(_explains(number, sentence, label) for label in _candidates(number, stated, found, facts)):
            title = _title(_owner(number, found), facts) if found else "any condition"
            yield f"The text gives {number.value:.3g} as a probability, which is not that of {title}."


def _is_probability(number: Number, sentence: str, found: Sequence[Mention]) -> bool:
    if number.in_range:
        return False
    if number.unit == "probability":
        return True
    digits = sentence[number.start : number.end]
    if number.unit != "none" or not re.fullmatch(r"0?\.\d+|1\.0+", digits):
        return False
    return bool(found) or bool(_SPEAKS_OF_PROBABILITY.search(sentence))


def _candidates(
    number: Number, stated: Sequence[Number], found: Sequence[Mention], facts: Facts
) -> Sequence[LabelFact]:
    """The labels that a number may be about: what is named just before, else all of the sentence, else all."""
    if not found:
        return facts.labels
    before = [mention for mention in found if mention.end <= number.start]
    others_between = before and any(before[-1].end <= each.start < number.start for each in stated)
    close = before and number.start - before[-1].end <= 4
    chosen = [before[-1]] if close and not others_between else found
    return [label for mention in chosen for label in _labels(mention, facts)]


def _owner(number: Number, found: Sequence[Mention]) -> Mention:
    before = [mention for mention in found if mention.end <= number.start]
    return before[-1] if before else found[0]


def _explains(number: Number, sentence: str, label: LabelFact) -> bool:
    if number.fits(label.probability):
        return True
    if label.threshold is not None and number.fits(label.threshold) and _THRESHOLD.search(sentence):
        return True
    spread = label.uncertainty is not None and re.search(r"(?:±|\+/-|\+-) ?(?:\w+ )?$", sentence[: number.start])
    return bool(spread) and number.fits(label.uncertainty or 0.0)


def _wrong_predictions(sentence: str, found: Sequence[Mention], facts: Facts) -> Iterator[str]:
    for mention in found:
        after = sentence[mention.end :]
        hit = re.match(r"\s*(?:is|of|at|was|:|=|about|around|roughly|to be|\(|\s)*(?=[-+]?[.\d])", after)
        if not hit:
            continue
        place = mention.end + hit.end()
        number = next((each for each in numbers(sentence) if each.start in (place, place + 1)), None)
        (label,) = _labels(mention, facts)
        if number and not _close(sentence[number.start :], label.probability):
            yield f"The text gives another number for {label.title} than the {label.probability:.4g} of the model."


def _close(written: str, value: float) -> bool:
    """Whether a number as it is written is the value, rounded."""
    hit = re.match(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?", written)
    if not hit:
        return True
    mantissa, _, exponent = hit.group().partition("e")
    last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    significant = len(mantissa.strip("+-").replace(".", "").strip("0"))
    rough = abs(value) * 10.0 ** (1 - max(significant, 1)) if float(hit.group()) and "." not in mantissa else 0.0
    return abs(float(hit.group()) - value) <= max(last, min(rough, 0.01 * abs(value)))
