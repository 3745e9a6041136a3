"""The pages with the results: what to beware of first, then conditions, measurements, the text, and their origin."""

from collections.abc import Mapping, Sequence

from hubert_ecg.ecg.finding import Finding
from serve.printing.document import ALARM, QUIET, Document
from serve.printing.fonts import lenient
from serve.report.contradiction import Contradiction
from serve.report.facts import Facts, LabelFact, MeasurementFact
from serve.report.text import EXPLAINED, NOT_SHOWN, SCOPE, percent
from serve.report.vocabulary import concept_of

_VERDICTS = {"low": "↓ low", "high": "↑ high", "normal": "normal", None: ""}


def add_results(
    pdf: Document,
    patient: Mapping[str, str],
    facts: Facts,
    report_text: str,
    contradictions: Sequence[Contradiction],
    *,
    author: str,
) -> None:
    """Everything but the ECG. Characters that cannot be printed are boxes here."""
    pdf.add_page(orientation="portrait")
    pdf.write_in(14, bold=True)
    pdf.cell(0, 8, "ECG report", new_x="LMARGIN", new_y="NEXT")
    if typed := [[title, text] for title, text in patient.items() if text]:
        pdf.pairs(typed, title_mm=20.0)
    _warnings(pdf, facts)
    _conditions(pdf, facts)
    _measurements(pdf, facts)
    _text(pdf, report_text, contradictions, author)
    _remarks(pdf, [each for each in facts.findings if each.severity == "info"])
    _origin(pdf, facts)


def _warnings(pdf: Document, facts: Facts) -> None:
    if facts.unanswered:
        pdf.box("No model has judged this ECG", [lenient(f"{facts.unanswered}.")], severe=True)
    if facts.abstained:
        lines = [lenient(facts.abstain_reason or "by the checkpoint's own rule"), "Please record the ECG again."]
        pdf.box("The model's answer is withheld", lines, severe=True)
    severe = [each for each in facts.findings if each.severity == "severe"]
    doubtful = [each for each in facts.findings if each.severity == "warning"]
    if severe:
        pdf.box("Signal quality: part of the recording is not to be relied on", _told(severe), severe=True)
    if facts.out_of_scope:
        reasons = [SCOPE.get(reason, reason) for reason in facts.out_of_scope]
        pdf.box("The model was not made for a recording like this one", [f"{'; '.join(reasons)}."], severe=True)
    if doubtful:
        pdf.box("Signal quality: to be looked at", _told(doubtful), severe=False)


def _told(findings: Sequence[Finding]) -> list[str]:
    return [lenient(f"{each.lead or 'Whole recording'}: {each.detail}") for each in findings]


def _conditions(pdf: Document, facts: Facts) -> None:
    if not facts.labels:
        return
    regression = facts.task == "regression"
    pdf.heading("Predicted values" if regression else "Conditions")
    if facts.abstained:
        pdf.paragraph(NOT_SHOWN)
        return
    if regression:
        pdf.grid(["Value", "Predicted"], [[_named(each), f"{each.probability:.4g}"] for each in facts.labels], [3, 1])
        return
    pdf.grid(
        ["Condition", "Probability", "Threshold", "Result", "In plain words"],
        [_condition(each, chosen=facts.task == "multi_class") for each in facts.labels],
        [31, 17, 15, 16, 45],
        marked=[bool(each.positive) for each in facts.labels],
    )
    if not facts.positive:
        pdf.paragraph("None of these conditions reaches its threshold.", points=8, colour=QUIET)


def _condition(label: LabelFact, *, chosen: bool) -> list[str]:
    spread = "" if label.uncertainty is None else f" ± {percent(label.uncertainty)}"
    present, absent = ("chosen", "not chosen") if chosen else ("present", "not present")
    return [
        _named(label),
        f"{percent(label.probability)}{spread}",
        "-" if label.threshold is None else percent(label.threshold),
        present if label.positive else absent,
        EXPLAINED.get(concept_of(label) or "", ""),
    ]


def _named(label: LabelFact) -> str:
    return lenient(label.title if label.title == label.name else f"{label.title} ({label.name})")


def _measurements(pdf: Document, facts: Facts) -> None:
    if not facts.measurements:
        return
    pdf.heading("Measurements")
    rows = [_measurement(each) for each in facts.measurements]
    marked = [each.verdict in ("low", "high") for each in facts.measurements]
    pdf.grid(["Measurement", "Value", "Normal, adults at rest", ""], rows, [32, 20, 32, 40], marked=marked)


def _measurement(found: MeasurementFact) -> list[str]:
    unit = found.sign if found.sign in ("°", "/min") else f" {found.sign}"
    title = found.title if found.title[:2].isupper() else found.title.capitalize()
    value = "-" if found.rounded is None else f"{found.rounded}{unit}"
    low, high = found.normal_low, found.normal_high
    limits = (
        "" if low is None and high is None else f"{high:g}{unit} or less" if low is None else f"{low:g}{unit} or more"
    )
    if low is not None and high is not None:
        limits = f"{low:g} to {high:g}{unit}"
    remark = _VERDICTS[found.verdict] if found.value is not None else lenient(f"not measurable: {found.reason}")
    return [title, value, limits, remark]


def _text(pdf: Document, text: str, contradictions: Sequence[Contradiction], author: str) -> None:
    if not text.strip():
        return
    pdf.heading("Report")
    if author:
        pdf.paragraph(lenient(f"Text: {author}."), points=7.5, colour=QUIET)
    if contradictions:
        lines = [lenient(f"“{each.sentence}” - {each.reason}") for each in contradictions]
        count = len(contradictions)
        places = "once" if count == 1 else f"{count} times"
        pdf.box(f"This text contradicts the results above {places}; the results count", lines, severe=True)
    wrong = [lenient(each.sentence) for each in contradictions]
    for paragraph in lenient(text).split("\n\n"):
        _paragraph(pdf, " ".join(paragraph.split()), wrong)
        pdf.ln(1.2)


def _paragraph(pdf: Document, text: str, wrong: Sequence[str]) -> None:
    """One paragraph, in which sentences that contradict the results are red and marked."""
    pdf.write_in(9)
    while text:
        places = [(text.find(sentence), sentence) for sentence in wrong if sentence and sentence in text]
        place, sentence = min(places, default=(len(text), ""))
        pdf.write(4.4, text[:place])
        if sentence:
            pdf.write_in(9, bold=True, colour=ALARM)
            pdf.write(4.4, f"⚠ {sentence}")
            pdf.write_in(9)
        text = text[place + len(sentence) :]
    pdf.ln(4.4)


def _remarks(pdf: Document, findings: Sequence[Finding]) -> None:
    if findings:
        pdf.heading("Remarks on the recording")
        for line in _told(findings):
            pdf.paragraph(line, points=8)


def _origin(pdf: Document, facts: Facts) -> None:
    pdf.heading("Where this came from")
    pdf.grid(
        ["Model", "Fingerprint of its weights and calibration", "Printed"],
        [[lenient(facts.model), lenient(facts.fingerprint), f"{pdf.printed_at:%Y-%m-%d %H:%M}"]],
        [30, 64, 30],
        points=7.5,
    )
    pdf.ln(1)
    pdf.paragraph(
        "The ECG is to scale where it is printed at its actual size (100 %) on A4: a large square is then 5 mm wide.",
        points=7.5,
        colour=QUIET,
    )
