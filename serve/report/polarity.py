"""Whether a sentence asserts or denies a condition that it mentions.

Rules in the manner of NegEx (Chapman et al., J Biomed Inform 2001): words before or after a mention within its clause
decide; a negated exclusion (`cannot be ruled out`) raises a condition, and what is only asked or explained says
nothing.
"""

import re
from collections.abc import Sequence
from typing import Literal

from serve.report.vocabulary import Mention

Polarity = Literal["asserted", "denied", "possible", "open"]

BLANK = "□"
"""Stands for another mention where the words around one are looked at."""

_CLAUSE = re.compile(
    r";|\s[–—]\s|,? (?:but|however|although|though|whereas|while|because|since|yet|except|hence|apart from that)\b"
    r"|, (?:so|which|with|in addition|thus|therefore)\b|,? and (?:there (?:is|are)|it (?:is|does|sees)"
    r"|the (?:model|heart|QRS|PR|axis|rate))\b",
    re.IGNORECASE,
)
_EXCLUDE = r"(?:exclud(?:e|ed|ing)|rul(?:e|ed|ing) out|dismiss(?:ed)?)"
_NOT_EXCLUDED = re.compile(
    rf"(?:\bcan ?not|\bcan't|\bcould not|\bcouldn't|\bnot|\bnever|n't|\bunable to|\bimpossible to)\b"
    rf"(?: (?:yet|be|been|entirely|fully|safely|completely|reliably|definitely|possible to"
    rf"|with certainty))* {_EXCLUDE}"
    rf"|\b{_EXCLUDE} neither|\b(?:neither|nor)\b[^.;]{{0,80}}\b(?:can|could) be {_EXCLUDE}",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\bwhether\b|\bwithheld\b|\bnot to be (?:used|relied)|\bif\b|\bin case\b|\blook(?:s|ed)? for\b|\brisk of\b"
    r"|\bhistory of\b"
    r"|\bsuch as\b|\b(?:paroxysmal|intermittent|at other times|another time)\b|\bwas considered\b|\bin general\b"
    r"|\b(?:cannot|can not|can't|could not|impossible|not possible|neither)\b[^.;]{0,25}\b(?:said|told"
    r"|confirmed|judged|decided|assessed|determined|stated)\b",
    re.IGNORECASE,
)
_POSSIBLE = re.compile(
    r"\b(?:possibl[ey]|may|might|could be|could indicate|perhaps|suspicion of|suspected|conceivable)\b", re.IGNORECASE
)
_DENIES = re.compile(
    r"\b(?:no(?! doubt)|not(?! only)|without|neither|nor|none|never|absence of|absent|lack of|lacks|free (?:of|from)"
    rf"|{_EXCLUDE}|rules out|excludes|fail(?:s|ed)? to|nothing (?:suggests|points|indicates|speaks|hints)|against"
    r"|rather than|instead of|unlikely|improbable)\b|n't\b",
    re.IGNORECASE,
)
_VERB = re.compile(r"^.+\b(?:is|are|was|were|has|have|had|shows?|there)\b")
_DENIED_AFTER = re.compile(
    rf"\b(?:not(?! only)|never|absent|(?:highly |very )?(?:unlikely|improbable)|{_EXCLUDE}|missing|negative"
    rf"|out of the question"
    r"|(?:is|are|was|were|stays?|remains?|lies?|lying) (?:well |far |just |clearly )?below|no longer)\b|n't\b",
    re.IGNORECASE,
)
_LIST = re.compile(rf"^(?:[\s,/]|\b(?:and|or|nor|as well as|an?|the|complete|both)\b|{BLANK})*", re.IGNORECASE)
_MEASURED = re.compile(r"\b(?:QRS|PR|QTc?|axis|heart rate|rate)\b")
_AFFIRMED = re.compile(
    r"\b(?:present|identif(?:y|ies|ied)|detect(?:s|ed)|sees|seen|saw|recogni[sz]e[sd]?|found|shows?|shown|diagnos\w+"
    r"|there (?:is|are)|reports?|reported|evidence of|confirm(?:s|ed)|likely)\b",
    re.IGNORECASE,
)
_PREDICATE = re.compile(
    r"^ (?:is|are|was|were) (?:\w+ly |also )?(?:present|seen|found|visible|detected|there)\b", re.IGNORECASE
)
_SMALL = re.compile(
    r"^\W{0,3}(?:(?:an?|probability|p|got|at|with|of|about|only|reaches|has|is)[\s:=]*){0,4}(?:below |above |< ?)?\d"
)
_EXPLAINS = re.compile(
    r"^(?:in|with|during) (?:an? |the )?(?:complete )?$|\b(?:typical (?:of|for)|characteristic of|seen in"
    r"|known from) (?:an? )?$",
    re.IGNORECASE,
)
_AS_BEFORE = re.compile(
    r"(?:\bas|\bso|\bneither|\blikewise|\balso) (?:is|are|was|were|has|have|does|do|did)\b[^,;]*$", re.IGNORECASE
)


def polarity(sentence: str, mention: Mention, others: Sequence[Mention], previous: Polarity | None) -> Polarity:
    """What a sentence says of a mention; `previous` is what it said of the one before, which `as is ...` repeats."""
    blanked = _blanked(sentence, [other for other in others if other is not mention])
    start, end = _clause(blanked, mention)
    before, after = blanked[start : mention.start], blanked[mention.end : end]
    if _OPEN.search(blanked) or _EXPLAINS.search(before):
        return "open"
    if mention.concepts == ("NORM",) and re.match(r"\W*(?:alone )?(?:does|do|can|need)", after):
        return "open"
    if _NOT_EXCLUDED.search(before + BLANK + after):
        return "possible"
    if previous and _AS_BEFORE.search(before):
        return previous
    said = _plain(before, after)
    if mention.negated_itself:
        return {"asserted": "denied", "denied": "asserted"}.get(said, said)  # type: ignore[return-value]
    return said


def _plain(before: str, after: str) -> Polarity:
    predicate = _predicate(after)
    cue = _governing(before)
    if cue is not None:
        chunk = before.rsplit(",", 1)[-1]
        elsewhere = cue.lower() in ("no", "not", "without") and cue not in chunk and " or " not in chunk
        return "asserted" if elsewhere and _PREDICATE.match(after) else "denied"
    if _DENIED_AFTER.search(predicate):
        return "denied"
    if _POSSIBLE.search(before) or _POSSIBLE.search(predicate):
        return "possible"
    if _SMALL.match(after) and not _AFFIRMED.search(before + predicate):
        return "open"
    return "asserted"


def _governing(before: str) -> str | None:
    """The last denying words before a mention that reach it: no other statement begins between them."""
    for cue in reversed(list(_DENIES.finditer(before))):
        between = re.sub(r"^ (?:is|are|was|were|been)\b", "", before[cue.end() :])
        if not _VERB.match(re.sub(r"\([^)]*\)", "", between)):
            return cue.group()
    return None


def _predicate(after: str) -> str:
    """What is said of a mention after it: past the rest of a list, up to another mention or a measurement."""
    rest = re.sub(r"\([^)]*\)", "", after)
    rest = rest[_LIST.match(rest).end() :]  # type: ignore[union-attr]
    stop = min((place for place in (rest.find(BLANK),) if place >= 0), default=len(rest))
    measured = _MEASURED.search(rest)
    return rest[: min(stop, measured.start() if measured else len(rest))]


def _clause(blanked: str, mention: Mention) -> tuple[int, int]:
    start, end = 0, len(blanked)
    for boundary in _CLAUSE.finditer(blanked):
        if boundary.end() <= mention.start:
            start = boundary.start()
        elif boundary.start() >= mention.end:
            end = min(end, boundary.start())
    return start, end


def _blanked(sentence: str, others: Sequence[Mention]) -> str:
    """The sentence with other mentions replaced, of the same length, so that places stay what they are."""
    for other in others:
        filler = BLANK + " " * (other.end - other.start - 1)
        sentence = sentence[: other.start] + filler + sentence[other.end :]
    return sentence
