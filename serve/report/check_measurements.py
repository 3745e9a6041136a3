"""What a sentence says of measurements, by numbers and by words that judge them, against what was measured."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve.report.facts import Facts, MeasurementFact
from serve.report.numbers import Number, numbers

_SUBJECTS = {
    "heart_rate": r"\b(?:heart|ventricular|pulse) rate|\bpulse\b|(?<!model )\brate\b(?!-)"
    r"|\bheart (?:is )?beat(?:s|ing)|\bventricles (?:were |are )?beat(?:ing)?",
    "pr": r"\b(?:PR|PQ)\b(?:[- ](?:interval|time|duration))?",
    "qrs": r"\bQRS\b(?! axis)(?: (?:duration|width|complex(?:es)?))?|\bventricular complexes",
    "qtc": r"\bQTc\b|\b(?:rate-)?corrected QT(?: interval)?|\bQT prolongation|\blong QT\b"
    r"|\bprolonged QT\b(?! interval of)",
    "qt": r"\bQT\b(?: interval)?",
    "axis": r"\b(?:QRS |electrical |frontal )?axis",
}
_SUBJECT = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _SUBJECTS.items()))
_OF_UNIT = {"bpm": ("heart_rate",), "ms": ("pr", "qrs", "qtc", "qt"), "deg": ("axis",)}
_UNIT_OF = {name: unit for unit, names in _OF_UNIT.items() for name in names}
_BARE = re.compile(
    r"^(?:[\s:=|(,]|\b(?:is|was|of|at|by|about|around|roughly|lies|measures|duration|interval|Bazett"
    r"|Fridericia)\b|'s formula)*[-+]?$"
)
_LIMIT = re.compile(
    r"\b(?:normal\w*|limits?|ranges?|usual\w*|at most|up to|more than|less than|above|below|exceed\w*|custom\w*"
    r"|should|upper"
    r"|threshold|allowed|than)\b|[<>≤≥]",
    re.IGNORECASE,
)
_UNMEASURED = re.compile(
    r"\b(?:could not|couldn't|cannot|can't|not|no|un)\b[^.;]{0,40}\b(?:measur|determin|obtain"
    r"|deriv)\w*",
    re.IGNORECASE,
)
"""A sentence that says so may tell which number was found and not believed."""
_FORMULAS = {
    "qtc_bazett": r"Bazett(?:'s)?(?: formula)?|\(B\)",
    "qtc_fridericia": r"Fridericia(?:'s)?(?: formula)?|\(F\)",
}


@dataclass(frozen=True, kw_only=True)
class _Subject:
    name: str
    start: int
    end: int


def _subjects(sentence: str) -> list[_Subject]:
    return [_Subject(name=str(hit.lastgroup), start=hit.start(), end=hit.end()) for hit in _SUBJECT.finditer(sentence)]


def wrong_values(sentence: str, facts: Facts, previous: str | None) -> tuple[list[str], str | None]:
    """Numbers that are not those measured, and what the sentence was about last; `previous`: the one before."""
    if facts.measurements is None:
        return [], None
    subjects = _subjects(sentence)
    stated = [number for number in numbers(sentence) if number.unit != "other" and not number.in_range]
    reasons = []
    for number in stated:
        names = _about(number, sentence, subjects, stated, previous)
        if not names:
            continue
        expected = [each for name in names for each in _expected(name, number, sentence, facts)]
        if not expected or any(each.value is not None and number.fits(each.value) for each in expected):
            continue
        if _is_limit(number, sentence, facts) or (_UNMEASURED.search(sentence) and expected[0].value is None):
            continue
        shown = " or ".join(
            "not measurable" if each.value is None else f"{each.rounded} {each.unit}" for each in expected
        )
        reasons.append(f"The text gives {number.value:g} for the {expected[0].title}, which is {shown}.")
    return reasons, subjects[-1].name if subjects else previous


def _about(
    number: Number, sentence: str, subjects: Sequence[_Subject], stated: Sequence[Number], previous: str | None
) -> list[str]:
    """The measurements that a number may be meant for; empty where it is no measurement."""
    before = [subject for subject in subjects if subject.end <= number.start]
    if number.unit == "none":
        direct = before and _BARE.match(sentence[before[-1].end : number.start])
        return [before[-1].name] if direct and abs(number.value) > 1 else []
    possible = _OF_UNIT.get(number.unit, ())
    if number.unit in ("bpm", "deg"):
        return list(possible)
    if number.value > 2000:
        return []
    fitting = [subject.name for subject in before if subject.name in possible][-1:]
    follows = next((each.start for each in stated if each.start > number.start), len(sentence))
    fitting += [each.name for each in subjects if number.end <= each.start < follows and each.name in possible][:1]
    return fitting or ([previous] if previous in possible else [])


def _expected(name: str, number: Number, sentence: str, facts: Facts) -> list[MeasurementFact]:
    names = [name]
    if name == "qtc":
        named = _formula(number, sentence)
        names = [named] if named else ["qtc_bazett", "qtc_fridericia"]
    return [found for each in names if (found := facts.measurement(each))]


def _formula(number: Number, sentence: str) -> str | None:
    """The formula that is named right after a number, or else right before it."""
    after, before = sentence[number.end :], sentence[: number.start]
    for name, pattern in _FORMULAS.items():
        if re.match(rf"[\s,(]*(?:by|after|with|per|according to)?\s?(?:{pattern})", after):
            return name
    for name, pattern in _FORMULAS.items():
        if re.search(rf"(?:{pattern})[^\d.]{{0,15}}$", before):
            return name
    return None


def _is_limit(number: Number, sentence: str, facts: Facts) -> bool:
    """Whether a number is a normal limit of something with this unit, and the sentence speaks of limits."""
    units = ("bpm", "ms", "deg") if number.unit == "none" else (number.unit,)
    limits = [
        limit
        for found in facts.measurements or ()
        if found.unit in units
        for limit in (found.normal_low, found.normal_high)
        if limit is not None
    ]
    return any(abs(number.value - limit) <= 1e-6 for limit in limits) and bool(_LIMIT.search(sentence))


_NOT_NORMAL = r"(?:than|above|below|outside|over|under|up to|exceed\w*)(?: (?:is|the|its|their|what is|upper|lower))*"
_NORMAL = (
    r"(?<!ab)(?<!-)\bnormal\b(?! (?:range|values?|is\b|up to|limit|up)|:)|\bunremarkable\b"
    r"|\bwithin (?:the |its |their )?normal\b|\bfine\b"
)
_WORDS: dict[str, dict[str, str]] = {
    "heart_rate": {
        "low": r"\bbradycardi[ac]\b|\b(?:too )?slow(?:er|ly|ed)?\b|\blow(?:er|ered)?\b|\bdecreased\b|\breduced\b",
        "high": r"\btachycardi[ac]\b|\b(?:too )?(?:fast(?:er)?|quick(?:ly|er)?|rapid(?:ly)?)\b|\bhigh(?:er)?\b"
        r"|\braised\b|\belevated\b|\bincreased\b|\baccelerated\b",
    },
    "pr": {
        "low": r"\bshort(?:er|ened)?\b",
        "high": r"\bprolong\w+|\blong(?:er)?\b|\blengthened\b|\bdelayed\b|\bslow(?:ed)?\b",
    },
    "qrs": {"high": r"\bwid(?:e|er|ened)\b|\bbroad(?:er|ened)?\b|\bprolong\w+", "normal": r"\bnarrow\b|\bslim\b"},
    "qtc": {"low": r"\bshort(?:er|ened)?\b", "high": r"\bprolong\w+|\blong(?:er)?\b|\blengthened\b"},
    "axis": {
        "low": r"\bleft(?:ward)? (?:electrical |QRS )?axis|\bdeviat\w+ (?:\w+ ){0,2}(?:to the )?left\b"
        r"|\bto the left\b|\bleft axis deviation",
        "high": r"\bright(?:ward)? (?:electrical |QRS )?axis|\bdeviat\w+ (?:\w+ ){0,2}(?:to the )?right\b"
        r"|\bto the right\b|\bright axis deviation",
    },
}
_ALWAYS = {"heart_rate": re.compile(r"\b(?:brady|tachy)cardi[ac]\b|\b(?:too fast|too slow)", re.IGNORECASE)}
"""Words that speak of a measurement without naming it."""
_DENYING = re.compile(
    r"\b(?:no|not(?! only)|without|neither|nor|never|rather than|instead of|absence of)\b|n't\b", re.IGNORECASE
)
_CHUNK = re.compile(
    r"[;,:]|\.\s|\band the\b|\bbut\b|\bwhile\b|\band (?=(?:a|an|there|PR|QRS|QTc?|axis|heart)\b)", re.IGNORECASE
)
_CONTINUES = re.compile(
    r"^\s*(?:(?:which|that|and|so|hence|thus|therefore|i\.e\.|but|still|slightly|clearly) ?)*(?:is|are|was|were"
    r"|which|hence|thus|not|too|also)\b"
)
_HYPOTHETICAL = re.compile(r"\b(?:if|whether|in case|may cause|can cause|would|look(?:s|ed)? for)\b", re.IGNORECASE)


def wrong_judgements(sentence: str, facts: Facts) -> Iterator[str]:
    """Words such as prolonged, broad, tachycardia or normal that the measured value does not bear out."""
    if facts.measurements is None or _HYPOTHETICAL.search(sentence):
        return
    current: list[str] = []
    denied_before = False
    for chunk in _chunks(sentence):
        named = [subject.name for subject in _subjects(chunk)]
        named += [name for name, pattern in _ALWAYS.items() if pattern.search(chunk)]
        names = ["qtc" if name == "qt" else name for name in dict.fromkeys(named)]
        current = names or (current if _CONTINUES.match(chunk) else [])
        for name in current:
            yield from _judged(name, chunk, named, facts, denied_before=denied_before)
        # A denial reaches over a list (no bradycardia, tachycardia or ...) until a verb has been said for it.
        rest = re.split(r"\b(?:no|neither|nor)\b", chunk, flags=re.IGNORECASE)
        denied_before = (denied_before or len(rest) > 1) and not re.search(r"\w (?:is|are|was|were)\b", rest[-1])


def _chunks(sentence: str) -> Iterator[str]:
    shortened = re.sub(r"\d[\d.]*", "0", sentence)
    start = 0
    for boundary in _CHUNK.finditer(shortened):
        yield shortened[start : boundary.start()]
        start = boundary.end() if boundary.group().strip() in (";", ",", ":", ".") else boundary.start() + 3
    yield shortened[start:]


def _judged(name: str, chunk: str, named: Sequence[str], facts: Facts, *, denied_before: bool) -> Iterator[str]:
    found = [each for key in _keys(name) if (each := facts.measurement(key))]
    if not found:
        return
    verdicts = {each.verdict for each in found}
    if verdicts == {None}:
        if all(each.value is None for each in found):
            for word, _, denied in _said(name, chunk, named):
                if not denied:
                    yield f"The text calls the {found[0].title} {word}, but it could not be measured."
        return
    for word, meaning, denied in _said(name, chunk, named):
        denied = denied or denied_before
        if denied == (meaning in verdicts) and not (denied and len(verdicts - {None}) > 1):
            values = " or ".join(f"{each.rounded} {each.unit}" for each in found if each.value is not None)
            judged = " or ".join(sorted({str(verdict) for verdict in verdicts if verdict}))
            yield f"The text calls the {found[0].title} {'not ' if denied else ''}{word}; it is {judged} ({values})."


def _keys(name: str) -> tuple[str, ...]:
    return ("qtc_bazett", "qtc_fridericia") if name == "qtc" else (name,)


def _said(name: str, chunk: str, named: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """(word, what it means, whether it is denied) of the judging words in a chunk that are about a measurement."""
    patterns = [(meaning, pattern) for meaning, pattern in _WORDS[name].items()] + [("normal", _NORMAL)]
    outside = re.search(rf"\b{_NOT_NORMAL} (?:normal|usual)", chunk)
    if outside:
        patterns = patterns[:-1]
    for meaning, pattern in patterns:
        for hit in re.finditer(pattern, chunk, re.IGNORECASE):
            if not _belongs(hit, name, chunk, named):
                continue
            yield hit.group(), meaning, bool(_DENYING.search(chunk[: hit.start()]))


def _belongs(hit: re.Match[str], name: str, chunk: str, named: Sequence[str]) -> bool:
    """Whether a word is about this measurement and not about another one of the chunk that it stands right before."""
    if len(set(named)) < 2:
        return True
    following = _SUBJECT.match(chunk[hit.end() :].lstrip())
    return following is None or str(following.lastgroup).replace("qtc", "qt") == name.replace("qtc", "qt")
