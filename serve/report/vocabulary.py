"""How conditions are called in reports: the names under which a text may speak of a checkpoint's labels."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from serve.report.facts import LabelFact

_BRANCH = r"bundle(?:[- ]branch)?(?: |-)block(?:ade)?s?"
_SIDED = r"(?:[- ](?:sided|hand))?"

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "NORM": "NORM",
        "NORMAL": "NORM",
        "AFIB": "AFIB",
        "AF": "AFIB",
        "AFLT": "AFLT",
        "AFL": "AFLT",
        "CLBBB": "LBBB",
        "LBBB": "LBBB",
        "CRBBB": "RBBB",
        "RBBB": "RBBB",
        "1AVB": "1AVB",
        "IAVB": "1AVB",
    }
)
"""Label names of the usual data sets -> concept."""

CONCEPT_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "NORM": "a normal ECG",
        "AFIB": "atrial fibrillation",
        "AFLT": "atrial flutter",
        "LBBB": "left bundle branch block",
        "RBBB": "right bundle branch block",
        "BBB": "bundle branch block",
        "1AVB": "first-degree AV block",
        "AVB": "AV block",
        "SINUS": "sinus rhythm",
        "REGULAR": "a regular rhythm",
    }
)

_THING = r"(?:ECG|EKG|electrocardiogram|tracing|trace|heart tracing)"
_NORMAL = r"(?:(?:entirely|completely|essentially|overall|perfectly|otherwise|very) )?(?:normal|unremarkable|healthy)"
_PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "INCOMPLETE": rf"\bincomplete (?:left |right )?{_BRANCH}|\bI[LR]BBB\b",
        "2AVB": r"\b(?:second|third|2nd|3rd|high)[- ](?:degree|grade) (?:AV |A-V |atrio-?ventricular |heart )?block"
        r"|\bcomplete heart block|\bMobitz|\bWenckebach",
        "LR": rf"\b(?:left|right){_SIDED},? (?:(?:or|and|nor)(?: an?| the)?|/) (?:left|right){_SIDED} {_BRANCH}"
        r"|\bblocks? (?:of|in) (?:the )?(?:left|right) (?:or|and|nor) (?:the )?(?:left|right) bundle(?: branch)?",
        "LBBB": rf"\bleft{_SIDED} {_BRANCH}|\bC?LBBB\b|\bblocks? (?:of|in) the left bundle(?: branch)?",
        "RBBB": rf"\bright{_SIDED} {_BRANCH}|\bC?RBBB\b|\bblocks? (?:of|in) the right bundle(?: branch)?",
        "BBB": rf"\b{_BRANCH}|\bBBB\b",
        "1AVB": r"\b(?:first|1st|1\.)[- ](?:degree|grade)[- ](?:AV[- ]|A-V |atrio-?ventricular |heart )?block"
        r"|\bAV[- ]block (?:I\b|of (?:the )?first degree|grade 1|1\b)|\b(?:1|I)AVB\b"
        r"|\bdelayed (?:AV|atrio-?ventricular) conduction",
        "AVB": r"\b(?:AV|A-V|atrio-?ventricular)[- ]block|\bheart block",
        "VF": r"\bventricular (?:fibrillation|flutter|tachycardia)|\btorsades?",
        "AFIB": r"\b(?:atrial |auricular )?fibrillation(?: of the atria)?|\bA-?fib\b|\batria (?:are|is"
        r"|were) fibrillating",
        "AFLT": r"\b(?:atrial |auricular )?flutter(?: of the atria)?(?! waves)|\batria (?:are|is|were) fluttering",
        "MI": r"\b(?:myocardial )?infarct(?:ion)?|\bheart attack|\bN?STEMI\b|\bisch(?:a)?emia|\bischa?emic",
        "STE": r"\bST[- ](?:segment[- ])?(?:elevation|depression)s?",
        "LVH": r"\b(?:left |right )?ventricular hypertrophy|\b[LR]VH\b",
        "OTHER": r"\bpericarditis|\bWolff|\bWPW\b|\bBrugada|\bhemiblock|\b(?:left )?(?:anterior"
        r"|posterior) fascicular block"
        r"|\bhyperkal(?:a)?emia|\bpulmonary embolism|\bventricular (?:premature|ectopic)|\bextrasystoles?",
        "ABNORMAL": rf"\babnormal {_THING}|\b{_THING} (?:is|looks|appears|seems) abnormal",
        "NORM": rf"\b{_NORMAL}(?:[- ]looking)? (?:12-lead )?{_THING}|\b{_THING} (?:is|looks|appears|seems|as"
        rf"|to be|was) {_NORMAL}"
        rf"|\b{_THING} (?:is|looks|appears|seems|was) not {_NORMAL}|\bnothing out of the ordinary",
        "SINUS": r"\bsinus rhythm",
        "REGULAR": r"\bregular(?:ly)? (?:sinus )?rhythm|\brhythm (?:is|was|looks|appears) (?:quite |very )?regular"
        r"|\bbeats? (?:quite |very )?regularly",
    }
)
_CASED = {
    "AFIB": r"\bAF\b",
    "AFLT": r"\bAFLT?\b",
}
OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "INCOMPLETE": "incomplete bundle branch block",
        "2AVB": "AV block of a higher degree",
        "VF": "ventricular arrhythmia",
        "MI": "infarction or ischaemia",
        "STE": "a shift of the ST segment",
        "LVH": "hypertrophy",
        "OTHER": "another condition",
    }
)
"""Conditions that none of the usual labels stands for, of which a model with such labels knows nothing."""


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A place where a sentence speaks of a condition."""

    concepts: tuple[str, ...]
    """What it may mean: keys of `CONCEPT_TITLES` and `OTHERS`, or `label:` and a label's name."""
    start: int
    end: int
    negated_itself: bool = False
    """Whether the words hold their own negation: an abnormal ECG."""


def concept_of(label: LabelFact) -> str:
    """The concept that a label stands for; `label:` and its name where it is none of the usual ones."""
    known = ALIASES.get(label.name.upper())
    if known:
        return known
    for concept in ("LBBB", "RBBB", "1AVB", "AFIB", "AFLT", "NORM"):
        found = re.fullmatch(rf"(?:complete )?(?:{_PATTERNS[concept]})", label.title, re.IGNORECASE)
        if found:
            return concept
    return f"label:{label.name}"


def mentions(sentence: str, labels: Sequence[LabelFact]) -> list[Mention]:
    """The conditions that a sentence speaks of, in their order; longer names before what they hold."""
    found: list[Mention] = []
    for mention in _all(sentence, labels):
        if all(mention.end <= other.start or mention.start >= other.end for other in found):
            found.append(mention)
    return sorted(found, key=lambda mention: mention.start)


def _all(sentence: str, labels: Sequence[LabelFact]) -> Iterator[Mention]:
    own = {concept: label for label in labels if (concept := concept_of(label)).startswith("label:")}
    spelled = sorted(
        {(name, concept) for concept, label in own.items() for name in (label.title, label.name) if len(name) > 1},
        key=lambda pair: -len(pair[0]),
    )
    for name, concept in spelled:
        flags = 0 if name.isupper() else re.IGNORECASE
        for hit in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", sentence, flags):
            yield Mention(concepts=(concept,), start=hit.start(), end=hit.end())
    patterns = [(concept, pattern, re.IGNORECASE) for concept, pattern in _PATTERNS.items()]
    patterns += [(concept, pattern, re.NOFLAG) for concept, pattern in _CASED.items()]
    for concept, pattern, case in patterns:
        for hit in re.finditer(pattern, sentence, case):
            meant = ("LBBB", "RBBB") if concept == "LR" else ("NORM",) if concept == "ABNORMAL" else (concept,)
            denied = concept == "ABNORMAL" or (concept == "NORM" and " not " in hit.group())
            yield Mention(concepts=meant, start=hit.start(), end=hit.end(), negated_itself=denied)
