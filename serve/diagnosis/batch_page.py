"""The page of a batch: asked for with a bar, then a table to sort, to open an ECG from, and to download."""

import streamlit as st

from serve.diagnosis import batch_table as table
from serve.diagnosis.service import predict_all
from serve.diagnosis.session import Session
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.trouble import Trouble
from serve.diagnosis.trouble_view import show_trouble
from serve.pdf import batch_zip

_ROW_PX, _MOST_PX = 36, 560
_DECIMALS = 3
"""Of probabilities: tenths of a per cent."""


def batch_page(held: Session, settings: AppSettings) -> None:
    """Draw it, asking the service for those ECGs that have no answer."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Add ECGs", icon=":material/add:", key="add"):
            held.adding = True
            st.rerun()
        if st.button("Start over", icon=":material/delete:", key="clear", help="Removes everything from memory."):
            held.clear()
            st.rerun()
    _ask(held, settings)
    st.html(f'<h2 class="hx-h2">{len(held.ecgs)} ECGs</h2>')
    _troubles(held)
    _table(held)
    _downloads(held)


def _ask(held: Session, settings: AppSettings) -> None:
    missing = {number: ecg.recording for number, ecg in held.ecgs.items() if number not in held.outcomes}
    if not missing:
        return
    bar = st.progress(0.0, f"Asking the model about {len(missing)} ECGs.")
    paced = frozenset(number for number in missing if held.ecgs[number].paced)
    for done, (number, outcome) in enumerate(predict_all(settings, missing, model=held.model, paced=paced), start=1):
        held.outcomes[number] = outcome
        bar.progress(done / len(missing), f"{done} of {len(missing)} answered.")
    bar.empty()


def _troubles(held: Session) -> None:
    """What befell the service is said once; what is wrong with a recording stands in its row."""
    failed = {
        number: outcome
        for number, outcome in held.outcomes.items()
        if isinstance(outcome, Trouble) and not outcome.of_recording
    }
    if failed and show_trouble(next(iter(failed.values())), key="again-batch"):
        for number in failed:
            held.forget(number)
        st.rerun()


def _table(held: Session) -> None:
    frame = table.batch_frame(held).round(dict.fromkeys(table.label_columns(held), _DECIMALS))
    labels = {
        name: st.column_config.NumberColumn(name, help=title, format="percent")
        for name, title in table.label_columns(held).items()
    }

    def open_clicked() -> None:
        held.shown = list(held.ecgs)[st.session_state["open-row"].row]

    st.dataframe(
        frame,
        hide_index=True,
        height=min(_MOST_PX, _ROW_PX * (len(frame) + 1) + 2),
        row_height=_ROW_PX,
        column_config={
            table.OPEN: st.column_config.ButtonColumn("", key="open-row", on_click=open_clicked, pinned=True),
            **labels,
        },
        alt="The batch: one row per ECG with the model's answer, quality, probabilities and measurements",
        placeholder="–",
        key="batch-table",
    )
    names = {number: ecg.name for number, ecg in held.ecgs.items()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.selectbox("Open an ECG", list(names), format_func=names.__getitem__, key="open-choice", width=360)
        if st.button("Open", key="open", type="primary") and number is not None:
            held.shown = number
            st.rerun()
    st.caption("A click on a column's head sorts the table. Probabilities are calibrated where the checkpoint is.")


def _downloads(held: Session) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Table as CSV", table.batch_csv(held), "ecg-batch.csv", "text/csv", key="csv", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip
        st.download_button(
            "All PDFs as a zip", lambda: batch_zip(table.batch_items(held)), "ecg-batch.zip", "application/zip",
            key="zip", on_click="ignore", icon=":material/folder_zip:",
        )  # fmt: skip
