"""The report to take away, as PDF: the ECG in true millimetres on landscape A4, then everything that was found.

A batch becomes a zip file with a PDF for each recording and a summary as PDF and as CSV. Nothing is written to disk.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from serve.paper.drawing import drawings
from serve.paper.layout import DEFAULT_STYLE, PaperStyle
from serve.printing.batch import BatchItem, pdf_names, summary_csv, summary_pdf, zipped
from serve.printing.document import Document
from serve.printing.ecg_page import add_ecg_page
from serve.printing.fonts import lenient
from serve.printing.patient import PatientFields, printed_fields
from serve.printing.results_page import add_results
from serve.report.contradiction import Contradiction
from serve.report.facts import Facts

__all__ = ["BatchItem", "PatientFields", "batch_zip", "report_pdf"]


def report_pdf(
    patient: PatientFields,
    samples_mv: np.ndarray,
    sampling_rate_hz: float,
    leads: Sequence[str],
    facts: Facts,
    report_text: str,
    *,
    contradictions: Sequence[Contradiction] = (),
    style: PaperStyle = DEFAULT_STYLE,
    start_s: float = 0.0,
    author: str = "made by fixed rules from the results above",
    printed_at: datetime | None = None,
) -> bytes:
    """A PDF of samples [lead, time] in mV and what was found in them; equal arguments give equal bytes.

    Shown are 10 s from `start_s` on, at 50 mm/s on two pages. `author` says who wrote `report_text`; sentences in
    `contradictions` are marked in it. `printed_at` is now unless it is given.

    Raises InputError where the samples do not fit the leads, or a patient field holds characters that cannot be
    printed; in other texts those become boxes.
    """
    fields = printed_fields(patient)
    pages = drawings(
        samples_mv,
        sampling_rate_hz,
        leads,
        style,
        start_s=start_s,
        findings=[each for each in facts.findings if each.start_s is not None],
        pages=True,
    )
    reference = f"model {lenient(facts.model)} {lenient(facts.fingerprint)[:16]}"
    whose = ", ".join(text for text in (fields["Name"], fields["ID"]) if text)
    pdf = Document(
        title="ECG report",
        reference=f"{whose[:40]}   {reference}" if whose else reference,
        printed_at=printed_at or datetime.now().astimezone(),
    )
    for number, drawn in enumerate(pages, start=1):
        add_ecg_page(pdf, drawn, fields, facts, f"Part {number} of {len(pages)}" if len(pages) > 1 else "")
    add_results(pdf, fields, facts, report_text, contradictions, author=author)
    return bytes(pdf.output())


def batch_zip(
    items: Sequence[BatchItem],
    *,
    style: PaperStyle = DEFAULT_STYLE,
    author: str = "made by fixed rules from the results above",
    printed_at: datetime | None = None,
) -> bytes:
    """A zip file with `summary.pdf`, `summary.csv` (UTF-8 with a byte order mark, as spreadsheets want it) and a PDF of
    each recording; errors as `report_pdf`."""
    printed_at = printed_at or datetime.now().astimezone()
    files = pdf_names([item.name for item in items])
    contents = [("summary.pdf", summary_pdf(items, files, printed_at))]
    contents.append(("summary.csv", summary_csv(items, files).encode("utf-8-sig")))
    for item, file in zip(items, files, strict=True):
        content = report_pdf(
            item.patient,
            item.samples_mv,
            item.sampling_rate_hz,
            item.leads,
            item.facts,
            item.report_text,
            contradictions=item.contradictions,
            style=style,
            author=author,
            printed_at=printed_at,
        )
        contents.append((file, content))
    return zipped(contents, printed_at)
