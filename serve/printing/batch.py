"""A batch as one zip file: a PDF for each recording, and a summary of all of them as PDF and as CSV."""

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from serve.printing.document import Document
from serve.printing.fonts import lenient
from serve.printing.patient import PatientFields
from serve.report.contradiction import Contradiction
from serve.report.facts import Facts
from serve.report.text import seen

_LONGEST_NAME = 60
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet would take for the beginning of a formula."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchItem:
    """One recording of a batch with all that its report needs."""

    name: str
    """Of its file, as the user knows it; only a safe form of it becomes a file name."""
    samples_mv: np.ndarray
    """[lead, time]"""
    sampling_rate_hz: float
    leads: Sequence[str]
    facts: Facts
    report_text: str
    patient: PatientFields = field(default_factory=PatientFields)
    contradictions: Sequence[Contradiction] = ()


def pdf_names(names: Sequence[str]) -> list[str]:
    """A file name for each recording: numbered, hence unique; ASCII letters, digits, dots, hyphens and underscores."""
    digits = max(3, len(str(len(names))))
    return [f"{number:0{digits}}_{_safe(name)}.pdf" for number, name in enumerate(names, start=1)]


def summary_csv(items: Sequence[BatchItem], files: Sequence[str]) -> str:
    """A row per recording: what was found, each probability and each measurement. Text that a spreadsheet would take
    for a formula begins with an apostrophe; numbers are numbers."""
    labels = list(dict.fromkeys(label.name for item in items for label in item.facts.labels))
    measured = list(dict.fromkeys(each.name for item in items for each in item.facts.measurements or ()))
    units = {each.name: each.unit for item in items for each in item.facts.measurements or ()}
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\r\n")
    head = ["recording", "pdf", "present", "withheld", "out of scope", "signal quality"]
    head += [f"probability {name}" for name in labels] + [f"{name} {units[name]}" for name in measured]
    rows.writerow([_cell(each) for each in [*head, "model", "fingerprint"]])
    for item, file in zip(items, files, strict=True):
        facts = item.facts
        found = {label.name: label.probability for label in facts.labels}
        values = {each.name: each.value for each in facts.measurements or ()}
        rows.writerow(
            [
                _cell(each)
                for each in [
                    item.name,
                    file,
                    "" if facts.abstained else "; ".join(label.name for label in facts.positive),
                    facts.unanswered or (facts.abstain_reason or "yes" if facts.abstained else ""),
                    "; ".join(facts.out_of_scope),
                    _quality(facts),
                    *["" if facts.abstained else _rounded(found.get(name), 4) for name in labels],
                    *[_rounded(values.get(name), 1) for name in measured],
                    facts.model,
                    facts.fingerprint,
                ]
            ]
        )
    return written.getvalue()


def summary_pdf(items: Sequence[BatchItem], files: Sequence[str], printed_at: datetime) -> bytes:
    """A table with a line per recording, those to beware of in bold."""
    models = dict.fromkeys(f"{item.facts.model} {item.facts.fingerprint[:16]}" for item in items)
    reference = f"model {lenient(', '.join(models))}" if items else ""
    pdf = Document(title="ECG reports: summary", reference=reference, printed_at=printed_at)
    pdf.add_page()
    pdf.write_in(14, bold=True)
    pdf.cell(0, 8, f"{len(items)} ECG reports", new_x="LMARGIN", new_y="NEXT")
    pdf.grid(
        ["File", "Recording", "Model sees", "Rate /min", "PR ms", "QRS ms", "QTcF ms", "To beware of"],
        [_row(item, file) for item, file in zip(items, files, strict=True)],
        [42, 42, 66, 16, 14, 15, 17, 58],
        marked=[bool(_beware(item.facts)) for item in items],
        points=8,
    )
    return bytes(pdf.output())


def zipped(files: Sequence[tuple[str, bytes]], made_at: datetime) -> bytes:
    """A zip file; equal arguments give equal bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name, made_at.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return written.getvalue()


def _row(item: BatchItem, file: str) -> list[str]:
    facts = item.facts
    values = [facts.measurement(name) for name in ("heart_rate", "pr", "qrs", "qtc_fridericia")]
    shown = ["-" if each is None or each.rounded is None else str(each.rounded) for each in values]
    return [file, lenient(item.name), lenient("; ".join(seen(facts))), *shown, _beware(facts)]


def _beware(facts: Facts) -> str:
    reasons = [] if facts.judged else seen(facts)
    reasons += [f"out of scope: {', '.join(facts.out_of_scope)}"] if facts.out_of_scope else []
    quality = _quality(facts)
    return "; ".join(reasons + ([f"signal: {quality}"] if quality else []))


def _quality(facts: Facts) -> str:
    found = [each for each in facts.findings if each.severity != "info"]
    return lenient("; ".join(dict.fromkeys(f"{each.kind}{f' {each.lead}' if each.lead else ''}" for each in found)))


def _safe(name: str) -> str:
    # The last part of a path only, of either system, and no ending: the PDF has its own.
    stem = re.sub(r"\.[^.]*$", "", re.split(r"[/\\]", name)[-1])
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_stem).strip("._-")[:_LONGEST_NAME] or "recording"


def _cell(value: str | float) -> str | float:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


def _rounded(value: float | None, digits: int) -> str | float:
    return "" if value is None else round(value, digits)
