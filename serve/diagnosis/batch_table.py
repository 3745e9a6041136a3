"""A batch as a table: what is shown, sorted and downloaded."""

from collections.abc import Sequence

import pandas as pd

from serve.diagnosis.service import Answer
from serve.diagnosis.session import Session
from serve.diagnosis.shown_leads import shown_leads
from serve.diagnosis.trouble import Trouble
from serve.printing.batch import BatchItem, pdf_names, summary_csv
from serve.report.facts import Facts
from serve.report.text import capital, plain_report, seen

OPEN, NAME, RESULT, QUALITY, NOTE = "Open", "ECG", "Model", "Quality", "Note"
_MEASURED = ("heart_rate", "pr", "qrs", "qtc_bazett", "axis")
_QUALITIES = {"severe": "poor", "warning": "look at it", "info": "good"}


def batch_frame(held: Session) -> pd.DataFrame:
    """A row per ECG, in the order of the upload, indexed by its number; probabilities 0 to 1."""
    return pd.DataFrame([_row(held, number) for number in held.ecgs], index=list(held.ecgs))


def batch_items(held: Session) -> list[BatchItem]:
    """What the files for download are made of, in the order of the table; texts are those without a language model."""
    items = []
    for number, ecg in held.ecgs.items():
        shown, facts = shown_leads(ecg.recording), held.facts(number)
        items.append(
            BatchItem(
                name=ecg.name,
                samples_mv=shown.samples_mv,
                sampling_rate_hz=shown.sampling_rate_hz,
                leads=shown.names,
                facts=facts,
                report_text=plain_report(facts),
            )
        )
    return items


def batch_csv(held: Session) -> bytes:
    """The table for a spreadsheet, UTF-8 with its mark."""
    items = batch_items(held)
    return summary_csv(items, pdf_names([item.name for item in items])).encode("utf-8-sig")


def label_columns(held: Session) -> dict[str, str]:
    """Column of each label that was answered -> its title."""
    answers = [outcome for outcome in held.outcomes.values() if isinstance(outcome, Answer)]
    return {each.label: capital(each.title) for answer in answers for each in answer.prediction.labels}


def _row(held: Session, number: int) -> dict[str, object]:
    outcome, facts = held.outcomes.get(number), held.facts(number)
    row: dict[str, object] = {OPEN: "Open", NAME: held.ecgs[number].name, RESULT: "; ".join(seen(facts))}
    row[QUALITY] = "unusable" if facts.unusable else _quality(facts)
    probabilities = {label.name: label.probability for label in facts.labels if facts.judged}
    row |= {name: probabilities.get(name) for name in label_columns(held)}
    for name in _MEASURED:
        found = facts.measurement(name)
        title = f"{capital(found.title)} ({found.sign})" if found else name
        row[title] = None if found is None or found.value is None else found.rounded
    row[NOTE] = outcome.title if isinstance(outcome, Trouble) else ", ".join(facts.out_of_scope)
    return row


def _quality(facts: Facts) -> str:
    worst: Sequence[str] = [each.severity for each in facts.findings]
    return next((_QUALITIES[severity] for severity in ("severe", "warning") if severity in worst), "good")
