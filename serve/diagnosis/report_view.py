"""The report in words and the PDF: written from the facts, or by a language model if the user agrees to it."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hubert_ecg.errors import InputError
from serve.diagnosis import markup
from serve.diagnosis.paper_view import Chosen
from serve.diagnosis.session import Session, Written
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.shown_leads import ShownLeads
from serve.diagnosis.sidebar import writer_choice
from serve.diagnosis.trouble_view import plain
from serve.paper.figure import paper_png
from serve.pdf import PatientFields, report_pdf
from serve.printing.patient import printed_fields
from serve.report.check import contradictions
from serve.report.facts import Facts
from serve.report.message import message
from serve.report.message import shown as shown_message
from serve.report.text import plain_report
from serve.report.writer import ReportError, WriterSettings, write_report


def report_section(
    held: Session, settings: AppSettings, number: int, facts: Facts, shown: ShownLeads, paper: Chosen
) -> None:
    """Draw report and PDF, side by side where there is room."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        text, written = _report(held, settings, number, facts, shown, paper)
    with right:
        _pdf(number, facts, shown, paper, text, written)


def _report(
    held: Session, settings: AppSettings, number: int, facts: Facts, shown: ShownLeads, paper: Chosen
) -> tuple[str, Written | None]:
    st.html('<h2 class="hx-h2">Report in plain language</h2>')
    written = held.written.get(number)
    if written is None:
        text = plain_report(facts)
        st.html(markup.report_html(text))
        if st.toggle("Let a language model write it", key="writer"):
            _write(held, settings, number, facts, shown, paper)
        return text, None
    _flag(written)
    st.html(markup.report_html(written.text))
    st.caption(f"Written by {plain(written.model)} from the facts and the picture that you agreed to send.")
    if st.button("Back to the report without a language model", key="unwrite"):
        del held.written[number]
        st.rerun()
    return written.text, written


def _flag(written: Written) -> None:
    """Sentences that are at odds with the model's numbers, before anybody reads them as true."""
    if not written.contradictions:
        st.success("No contradiction between this text and the model's numbers was found.", icon=":material/check:")
        return
    st.error(
        f"This text contradicts the numbers ({len(written.contradictions)} found). Trust the numbers, not the text:",
        icon=":material/warning:",
    )
    st.html(markup.contradictions_list(written.contradictions))


def _write(held: Session, settings: AppSettings, number: int, facts: Facts, shown: ShownLeads, paper: Chosen) -> None:
    """Settings of the writer, exactly what would be sent and whereto, consent, and the text as it arrives."""
    if facts.unanswered:
        st.info("No model has judged this ECG, so there is nothing to write about.")
        return
    chosen = writer_choice(settings)
    if isinstance(chosen, str):
        st.error(chosen)
        return
    writer, key = chosen
    if not key and writer.base_url == WriterSettings().base_url:
        st.info("Type a key above; without one the report of this page stays as it is, and nothing is sent.")
        return
    png = paper_png(shown.samples_mv, shown.sampling_rate_hz, shown.names, paper.style, start_s=paper.start_s)
    host = plain(_host(writer))
    sent = message(facts, png)
    st.markdown(f"This, and nothing else, would be sent to **{host}**, model **{plain(writer.model)}**:")
    st.html(
        f'<div class="hx-sent" tabindex="0" role="region" aria-label="Text that would be sent">'
        f"{markup.escape(shown_message(sent))}</div>"
    )
    st.image(png, caption="The picture that would be sent: no name, no number, no date.")
    # Who agreed to one text for one place has not agreed to another: the box belongs to what is shown.
    agreed = st.checkbox(f"I agree to send this text and this picture to {host}.", key=_digest(sent, writer))
    if st.button("Write the report", type="primary", disabled=not agreed, key="write"):
        _stream(held, number, facts, png, writer, key)


def _stream(held: Session, number: int, facts: Facts, png: bytes, writer: WriterSettings, key: str | None) -> None:
    place, text = st.empty(), ""
    try:
        with st.spinner(f"{writer.model} is writing.", show_time=True):
            for piece in write_report(writer, key, facts, png):
                text += piece
                place.html(markup.report_html(text))
    except ReportError as error:
        place.empty()
        st.error(f"{plain(str(error))} The report above stays as it is.", icon=":material/error:")
        return
    held.written[number] = Written(text=text, model=writer.model, contradictions=tuple(contradictions(text, facts)))
    st.rerun()


def _digest(sent: Sequence[Any], writer: WriterSettings) -> str:
    content = json.dumps([sent, writer.base_url, writer.model])
    return f"consent-{sha256(content.encode()).hexdigest()}"


def _host(writer: WriterSettings) -> str:
    return writer.base_url.split("://", 1)[-1].split("/", 1)[0]


def _pdf(number: int, facts: Facts, shown: ShownLeads, paper: Chosen, text: str, written: Written | None) -> None:
    st.html('<h2 class="hx-h2">PDF</h2>')
    st.caption("What you type here goes into the PDF, and nowhere else.")
    patient = patient_fields(number, facts)
    try:
        printed_fields(patient)
    except InputError as error:
        st.error(str(error))
        return

    def made() -> bytes:
        return report_pdf(
            patient,
            shown.samples_mv,
            shown.sampling_rate_hz,
            shown.names,
            facts,
            text,
            contradictions=written.contradictions if written else (),
            style=paper.style,
            start_s=paper.start_s,
            author=author_of(written),
        )

    st.download_button(
        "Download the PDF",
        made,
        f"ecg-{number + 1}.pdf",
        "application/pdf",
        key="pdf",
        type="primary",
        on_click="ignore",
        icon=":material/download:",
    )


def patient_fields(number: int, facts: Facts) -> PatientFields:
    """Draw the fields and return what stands in them; the sex is that of the facts."""

    def typed(place: DeltaGenerator, label: str, key: str) -> str:
        return place.text_input(label, key=f"{key}-{number}", persist_state="session", autocomplete="off")

    left, right = st.columns(2)
    return PatientFields(
        name=typed(left, "Name", "name"),
        patient_id=typed(right, "Patient ID", "identifier"),
        birth_date=typed(left, "Date of birth", "birth"),
        sex=facts.sex or "",
        recorded=typed(right, "Recorded on", "recorded"),
        clinician=typed(left, "Clinician", "clinician"),
        note=st.text_area("Clinical question or note", key=f"note-{number}", persist_state="session", height=90),
    )


def author_of(written: Written | None) -> str:
    """Who wrote the text, for the PDF."""
    return f"written by the language model {written.model}" if written else "made by fixed rules from the results above"
