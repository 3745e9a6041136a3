"""The diagnosis app: upload an ECG, see it on paper, see what the model thinks of it, take a report away.

`make app` starts it together with the service. It holds no model: everything about an ECG is asked over HTTP.
"""

import streamlit as st

from hubert_ecg.errors import ConfigError
from serve.diagnosis.batch_page import batch_page
from serve.diagnosis.ecg_page import ecg_page
from serve.diagnosis.session import Session, session
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.sidebar import sidebar
from serve.diagnosis.start_page import start_page
from serve.diagnosis.style import CSS
from serve.diagnosis.trouble import Trouble
from serve.diagnosis.trouble_view import show_trouble
from serve.diagnosis.uploads import keep_in_memory
from serve.diagnosis.wording import NOTICE


def main() -> None:
    """Draw the page that the session is at."""
    st.set_page_config(page_title="ECG reader", page_icon="🫀", layout="wide", initial_sidebar_state="collapsed")
    keep_in_memory()
    st.html(CSS)
    st.html(
        '<div class="hx-head"><h1 class="hx-title">ECG reader</h1><p class="hx-sub">A 12-lead ECG on paper, what a '
        "model sees in it, and a report.</p></div>"
        f'<div class="hx-banner" role="note"><strong>Not a diagnosis.</strong> {NOTICE}</div>'
    )
    try:
        settings = AppSettings.of_environment()
    except ConfigError as error:
        st.error(str(error))
        st.stop()
    _page(session(), settings)


def _page(held: Session, settings: AppSettings) -> None:
    sidebar(held, settings)
    if held.shown is not None and not held.adding:
        ecg_page(held, settings, held.shown)
    elif held.ecgs and not held.adding:
        batch_page(held, settings)
    else:
        if isinstance(held.models, Trouble) and show_trouble(held.models, key="again-start"):
            held.models = None
            st.rerun()
        start_page(held)


main()
