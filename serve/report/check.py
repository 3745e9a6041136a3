"""Where a text contradicts the facts that it is about: by condition, negation, number, side or judging word.

A reader of English by rules, not a judge of truth: it knows how reports usually put things. What it flags is to be
looked at; what it does not flag need not be right.
"""

from serve.report.check_conditions import wrong_conditions, wrong_probabilities
from serve.report.check_measurements import wrong_judgements, wrong_values
from serve.report.contradiction import Contradiction
from serve.report.facts import Facts
from serve.report.sentences import paragraphs

_QUOTED = 12
"""Shorter words are no quotation."""

__all__ = ["Contradiction", "contradictions"]


def contradictions(text: str, facts: Facts) -> list[Contradiction]:
    """What in a text is at odds with the facts, in the order of the text; each reason once per sentence."""
    found: list[Contradiction] = []
    for paragraph in paragraphs(_without_quotes(text, facts)):
        subject: str | None = None
        for sentence in paragraph:
            reasons = [*wrong_conditions(sentence, facts), *wrong_probabilities(sentence, facts)]
            values, subject = wrong_values(sentence, facts, subject)
            reasons += [*values, *wrong_judgements(sentence, facts)]
            found += [Contradiction(sentence=sentence, reason=reason) for reason in dict.fromkeys(reasons)]
    return found


def _without_quotes(text: str, facts: Facts) -> str:
    """The text without what it repeats word for word of findings and reasons, which hold numbers of their own."""
    quotes = [each.detail for each in facts.findings] + [each.reason for each in facts.measurements or ()]
    for quote in [*quotes, facts.abstain_reason]:
        if quote and len(quote) >= _QUOTED:
            text = text.replace(quote.rstrip("."), "as noted")
    return text
