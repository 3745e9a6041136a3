"""The page of one ECG: what limits it, what the model says, the ECG on paper, its beats, the report."""

import streamlit as st

from hubert_ecg.ecg.recording import Recording
from serve.diagnosis import markup
from serve.diagnosis.beats_view import beats_section
from serve.diagnosis.paper_view import paper_section
from serve.diagnosis.report_view import report_section
from serve.diagnosis.service import Answer, predict
from serve.diagnosis.session import Session, Sex
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.shown_leads import shown_leads
from serve.diagnosis.trouble import Trouble
from serve.diagnosis.trouble_view import show_trouble
from serve.report.facts import Facts
from serve.report.text import NOT_SHOWN

_TABS = ("Report and PDF", "Waves and beats", "Details")
_SEXES: dict[Sex | None, str] = {None: "not given", "female": "female", "male": "male"}


def ecg_page(held: Session, settings: AppSettings, number: int) -> None:
    """Draw it, asking the service where that has not been done."""
    ecg = held.ecgs[number]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(
            f'<h2 class="hx-h2">{markup.escape(ecg.name)}</h2><p class="hx-sub">{_about(ecg.recording)}</p>',
            width="content",
        )
        _navigation(held, number)
    outcome = _outcome(held, settings, number)
    if isinstance(outcome, Trouble) and show_trouble(outcome, key=f"again-{number}"):
        held.forget(number)
        st.rerun()
    facts = held.facts(number)
    if markup.matters(facts):
        st.html(markup.quality_box(facts))
    if isinstance(outcome, Answer):
        st.html(markup.answer_box(facts))
    shown = shown_leads(ecg.recording)
    chosen = paper_section(held, settings, number, shown)
    _numbers(facts)
    report, beats, details = st.tabs(_TABS, key="tabs", on_change="rerun")
    with report:
        report_section(held, settings, number, facts, shown, chosen)
    if beats.open:  # it takes a second
        with beats:
            beats_section(shown.recording, number)
    with details:
        _details(held, number, facts)


def _navigation(held: Session, number: int) -> None:
    order = list(held.ecgs)
    place = order.index(number)
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        if len(order) > 1:
            if st.button(f"All {len(order)} ECGs", icon=":material/arrow_back:", key="to-batch"):
                _go(held, None)
            if st.button("Previous", key="previous", disabled=place == 0):
                _go(held, order[place - 1])
            if st.button("Next", key="next", disabled=place == len(order) - 1):
                _go(held, order[place + 1])
        elif st.button("Another ECG", icon=":material/arrow_back:", key="another"):
            held.clear()
            st.rerun()


def _go(held: Session, number: int | None) -> None:
    held.shown = number
    st.rerun()


def _about(recording: Recording) -> str:
    count = len(recording.lead_names)
    parts = [f"{recording.duration_s:.1f} s", f"{recording.sampling_rate_hz:g} samples per second"]
    parts.append("1 lead" if count == 1 else f"{count} leads")
    if recording.age_years is not None:
        parts.append(f"{recording.age_years:.0f} years")
    if recording.sex:
        parts.append(recording.sex)
    return ", ".join(parts)


def _outcome(held: Session, settings: AppSettings, number: int) -> Answer | Trouble:
    if number not in held.outcomes:
        ecg = held.ecgs[number]
        with st.spinner("Asking the model.", show_time=True):
            held.outcomes[number] = predict(settings, ecg.recording, model=held.model, paced=ecg.paced)
    return held.outcomes[number]


def _numbers(facts: Facts) -> None:
    """Conditions and measurements, side by side where there is room."""
    left, right = st.columns(2, gap="large") if facts.labels else (None, st.container())
    if left is not None:
        with left:
            table = markup.conditions_table(facts) if facts.judged else f"<p>{NOT_SHOWN}</p>"
            st.html(f'<h2 class="hx-h2">What the model says</h2>{table}')
    with right:
        table = "<p>Not measured: fewer than 50 samples per second.</p>"
        if facts.measurements is not None:
            table = markup.measurements_table(facts.measurements)
        st.html(f'<h2 class="hx-h2">Measurements</h2>{table}')


def _details(held: Session, number: int, facts: Facts) -> None:
    st.html(f'<h2 class="hx-h2">Signal quality</h2>{markup.findings_list(facts.findings)}')
    st.html('<h2 class="hx-h2">The patient</h2>')
    st.caption("Age and sex decide about normal limits; the model was made for adults without a pacemaker.")
    ecg = held.ecgs[number]
    with st.form(f"patient-{number}", border=False):
        age = st.number_input("Age in years", 0.0, 130.0, ecg.recording.age_years, format="%g", width=200)
        sexes = list(_SEXES)
        index = sexes.index(ecg.recording.sex) if ecg.recording.sex in sexes else 0
        sex = st.selectbox("Sex", sexes, index=index, format_func=_SEXES.__getitem__, width=200)
        paced = st.checkbox("A pacemaker was active", value=ecg.paced)
        if st.form_submit_button("Ask again"):
            held.describe(number, age_years=age, sex=sex, paced=paced)
            st.rerun()
    st.html('<h2 class="hx-h2">The model</h2>')
    outcome = held.outcomes.get(number)
    if isinstance(outcome, Answer):
        st.write(f"Checkpoint `{outcome.model}`, fingerprint `{outcome.fingerprint}`, {len(facts.labels)} labels.")
    else:
        st.write("No answer of a model.")
