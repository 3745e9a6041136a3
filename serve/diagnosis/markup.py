"""The answer as HTML: conditions against their thresholds, measurements against their ranges, what is wrong with it.

Everything that comes from outside is escaped. Tables are tables and colours repeat what words say, for readers who
hear the page or do not see its colours.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from hubert_ecg.ecg.finding import Finding
from serve.diagnosis.wording import headline, is_normal, meaning, shown_value, verdict
from serve.report.contradiction import Contradiction
from serve.report.facts import Facts, LabelFact, MeasurementFact
from serve.report.text import SCOPE, capital, percent

_MOST_FINDINGS = 5
_SEVERITY_WORDS = {"severe": "Severe", "warning": "Look at it", "info": "Note"}
_VERDICT_WORDS = {"low": "low", "high": "high", "normal": "normal"}


def conditions_table(facts: Facts) -> str:
    """A row per label, those that are seen first: its name, a bar with its threshold, and how it is to be read."""
    rows = "".join(_condition(label) for label in sorted(facts.labels, key=lambda label: not label.positive))
    return (
        '<table class="hx-table"><caption class="hx-hidden">What the model says of each condition</caption>'
        '<colgroup><col style="width:41%"><col style="width:33%"><col style="width:26%"></colgroup>'
        '<thead><tr><th scope="col">Condition</th><th scope="col">Probability</th><th scope="col">The model</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
        '<p class="hx-key">The upright mark in each bar is the threshold from which the condition counts as seen.</p>'
    )


def _condition(label: LabelFact) -> str:
    tone = ("good" if is_normal(label) else "yes") if label.positive else ""
    spread = f" ± {percent(label.uncertainty)}" if label.uncertainty is not None and label.positive is not None else ""
    threshold = "" if label.threshold is None else f'<div class="code">threshold {percent(label.threshold)}</div>'
    bar = "" if label.positive is None else _bar(label, tone)
    word = {"yes": "yes", "good": "ok", "": "no"}[tone]
    explained = f'<div class="code" style="white-space:normal">{escape(meaning(label))}</div>' if label.positive else ""
    return (
        f'<tr><th scope="row">{escape(capital(label.title))} {_code(label)}{explained}</th>'
        f'<td><span class="number">{shown_value(label)}{spread}</span>{bar}{threshold}</td>'
        f'<td class="{word}">{escape(capital(verdict(label)))}</td></tr>'
    )


def _code(label: LabelFact) -> str:
    return "" if label.name == label.title else f'<span class="code">{escape(label.name)}</span>'


def _bar(label: LabelFact, tone: str) -> str:
    width = 100 * min(max(label.probability, 0.0), 1.0)
    tick = "" if label.threshold is None else f'<div class="tick" style="left:{100 * label.threshold:.1f}%"></div>'
    fill = f'<div class="fill" style="width:{width:.1f}%"></div>'
    return f'<div class="hx-bar {tone}" aria-hidden="true">{fill}{tick}</div>'


def measurements_table(measurements: Sequence[MeasurementFact]) -> str:
    """A row per measurement: value, normal range, and whether it lies within it; or why there is no value."""
    rows = "".join(_measurement(each) for each in measurements)
    return (
        '<table class="hx-table"><caption class="hx-hidden">Measurements of the ECG</caption><thead><tr>'
        '<th scope="col">Measurement</th><th scope="col">Value</th><th scope="col">Normal (adults)</th>'
        f'<th scope="col">Reading</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _measurement(found: MeasurementFact) -> str:
    title = f'<tr><th scope="row">{escape(capital(found.title))}</th>'
    if found.value is None:
        why = escape(found.reason or "no reason given")
        return f'{title}<td class="none" colspan="3">not measurable: {why}</td></tr>'
    kind = {"low": "low", "high": "high", "normal": "ok", None: "none"}[found.verdict]
    word = _VERDICT_WORDS.get(found.verdict or "", "depends on the rate" if found.name == "qt" else "")
    return (
        f'{title}<td class="number">{with_unit(found.rounded, found.sign)}</td>'
        f'<td class="number">{normal_range(found)}</td><td class="{kind}">{word}</td></tr>'
    )


def with_unit(value: float | None, sign: str) -> str:
    """`72 /min`, `-12°`."""
    return f"{value:g}{'' if sign == '°' else ' '}{sign}"


def normal_range(found: MeasurementFact) -> str:
    """`60 to 100 /min`, or a dash where there is none."""
    low, high = found.normal_low, found.normal_high
    if low is None and high is None:
        return "–"
    if low is None:
        return f"up to {with_unit(high, found.sign)}"
    if high is None:
        return f"from {with_unit(low, found.sign)}"
    return f"{low:g} to {with_unit(high, found.sign)}"


def answer_box(facts: Facts) -> str:
    """The answer in one sentence, and what in the measurements is out of its range."""
    sentence, tone = headline(facts)
    odd = [each for each in facts.measurements or () if each.verdict in ("low", "high")]
    told = ", ".join(f"{each.title} {with_unit(each.rounded, each.sign)} ({each.verdict})" for each in odd)
    rate = facts.measurement("heart_rate")
    rest = f"Outside normal limits: {told}." if told else "All measured values lie within normal limits."
    if not any(each.value is not None for each in facts.measurements or ()):
        rest = "Nothing could be measured."
    elif rate is not None and rate.value is not None and rate not in odd:
        rest = f"Heart rate {with_unit(rate.rounded, rate.sign)}. {rest}"
    return (
        f'<div class="hx-verdict {tone}" role="status"><p><strong>{escape(sentence)}</strong></p>'
        f'<p class="more">{escape(rest)}</p></div>'
    )


def matters(facts: Facts) -> bool:
    """Whether something has to be said before the diagnosis."""
    return bool(_important(facts) or facts.out_of_scope)


def quality_box(facts: Facts) -> str:
    """What limits the answer: severe findings and warnings, and why the model was not made for the recording."""
    found = _important(facts)
    scope = [f"The model was not made for it: {SCOPE.get(reason, reason)}." for reason in facts.out_of_scope]
    told = [*scope, *(_sentence(finding) for finding in found)]
    severe = facts.unusable or any(finding.severity == "severe" for finding in found)
    title = "Do not rely on this recording" if facts.unusable else "Before you read the answer"
    items = "".join(f"<li>{escape(each)}</li>" for each in told[:_MOST_FINDINGS])
    left = len(told) - _MOST_FINDINGS
    more = f"<li>{left} more under “Details”.</li>" if left > 0 else ""
    return f'<div class="hx-quality {"severe" if severe else ""}"><h2>{title}</h2><ul>{items}{more}</ul></div>'


def findings_list(findings: Sequence[Finding]) -> str:
    """All findings, notes among them."""
    if not findings:
        return '<p class="hx-sub">Nothing was noticed about the signal.</p>'
    rows = "".join(
        f'<tr><th scope="row">{_SEVERITY_WORDS[each.severity]}</th><td>{escape(each.lead or "all leads")}</td>'
        f"<td>{escape(each.kind)}</td><td>{escape(each.detail)}{_when(each)}</td></tr>"
        for each in findings
    )
    return (
        '<table class="hx-table"><thead><tr><th scope="col">Weight</th><th scope="col">Lead</th><th scope="col">Finding'
        f'</th><th scope="col">Detail</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def paper(svg: str, leads: Sequence[str], *, fit: bool) -> str:
    """The ECG as a picture that fits the page, or has its true size; Streamlit strips SVG elements from HTML."""
    address = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
    words = escape(f"ECG on paper, leads {', '.join(leads)}", quote=True)
    return (
        f'<div class="hx-paper {"fit" if fit else ""}" tabindex="0" role="region" aria-label="ECG on paper">'
        f'<img src="{address}" alt="{words}"></div>'
        '<p class="hx-key hx-sideways">Scroll the ECG sideways to see all leads.</p>'
    )


def report_html(text: str) -> str:
    """Paragraphs of plain text; nothing in it is markup."""
    parts = "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())
    return f'<div class="hx-report">{parts}</div>'


def contradictions_list(found: Sequence[Contradiction]) -> str:
    """Each sentence that is at odds with the facts, and why."""
    items = "".join(f"<li><q>{escape(each.sentence)}</q>: {escape(each.reason)}</li>" for each in found)
    return f'<div class="hx-quality severe"><ul>{items}</ul></div>'


def _important(facts: Facts) -> list[Finding]:
    return [finding for finding in facts.findings if finding.severity != "info"]


def _sentence(finding: Finding) -> str:
    place = f"Lead {finding.lead}" if finding.lead else "Whole recording"
    return f"{place}, {finding.kind}: {finding.detail}{_when(finding)}"


def _when(finding: Finding) -> str:
    if finding.start_s is None:
        return ""
    end = "" if finding.end_s is None else f" to {finding.end_s:.1f}"
    return f" (at {finding.start_s:.1f}{end} s)"
