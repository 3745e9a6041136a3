"""SNOMED CT codes of the PhysioNet/CinC Challenge 2021: the scored diagnoses, and the six conditions of this project.

Reyna et al., Will Two Do? Varying Dimensions in Electrocardiography: The PhysioNet/Computing in Cardiology Challenge
2021; its table of scored diagnoses. Codes in one line are scored as the same diagnosis.
"""

from collections.abc import Iterable

SCORED: dict[str, tuple[str, tuple[str, ...]]] = {
    "AF": ("atrial fibrillation", ("164889003",)),
    "AFL": ("atrial flutter", ("164890007",)),
    "BBB": ("bundle branch block", ("6374002",)),
    "Brady": ("bradycardia", ("426627000",)),
    "CLBBB|LBBB": ("complete left bundle branch block, left bundle branch block", ("733534002", "164909002")),
    "CRBBB|RBBB": ("complete right bundle branch block, right bundle branch block", ("713427006", "59118001")),
    "IAVB": ("1st degree AV block", ("270492004",)),
    "IRBBB": ("incomplete right bundle branch block", ("713426002",)),
    "LAD": ("left axis deviation", ("39732003",)),
    "LAnFB": ("left anterior fascicular block", ("445118002",)),
    "LPR": ("prolonged PR interval", ("164947007",)),
    "LQRSV": ("low QRS voltages", ("251146004",)),
    "LQT": ("prolonged QT interval", ("111975006",)),
    "NSIVCB": ("nonspecific intraventricular conduction disorder", ("698252002",)),
    "NSR": ("sinus rhythm", ("426783006",)),
    "PAC|SVPB": ("premature atrial contraction, supraventricular premature beats", ("284470004", "63593006")),
    "PR": ("pacing rhythm", ("10370003",)),
    "PRWP": ("poor R wave progression", ("365413008",)),
    "PVC|VPB": ("premature ventricular contractions, ventricular premature beats", ("427172004", "17338001")),
    "QAb": ("Q wave abnormal", ("164917005",)),
    "RAD": ("right axis deviation", ("47665007",)),
    "SA": ("sinus arrhythmia", ("427393009",)),
    "SB": ("sinus bradycardia", ("426177001",)),
    "STach": ("sinus tachycardia", ("427084000",)),
    "TAb": ("T wave abnormal", ("164934002",)),
    "TInv": ("T wave inversion", ("59931005",)),
}
"""Abbreviation -> (name, codes) of the 26 scored diagnoses."""

CONDITION_CODES: dict[str, tuple[str, ...]] = {
    "AFIB": ("164889003",),
    "AFLT": ("164890007",),
    "CLBBB": ("733534002", "164909002"),
    "CRBBB": ("713427006", "59118001"),
    "1AVB": ("270492004",),
}
_SINUS_RHYTHM = "426783006"
_EARLY_NAMES = {"PAC": "284470004", "PVC": "427172004"}
"""Abbreviations that some early headers (CPSC 2018 as first published) have in place of codes."""

_SCORED_BY_CODE = {code: label for label, (_, codes) in SCORED.items() for code in codes}
_CONDITION_BY_CODE = {code: label for label, codes in CONDITION_CODES.items() for code in codes}


def parse_diagnoses(text: str) -> list[str]:
    """`164889003, 59118001` -> its codes, each once, in the order of the text."""
    words = (word.strip() for word in text.split(","))
    return list(dict.fromkeys(_EARLY_NAMES.get(word, word) for word in words if word and word.lower() != "unknown"))


def scored_labels(codes: Iterable[str]) -> list[str]:
    """The scored diagnoses among some codes, sorted, each once."""
    return sorted({_SCORED_BY_CODE[code] for code in codes if code in _SCORED_BY_CODE})


def condition_labels(codes: Iterable[str]) -> list[str]:
    """The six conditions, in their order; NORM where sinus rhythm is all that is said, for sick hearts have it too."""
    present = set(codes)
    if present == {_SINUS_RHYTHM}:
        return ["NORM"]
    return [label for label, of_label in CONDITION_CODES.items() if present & set(of_label)]
