"""The side of the page: which checkpoint answers, and which language model may write reports."""

import streamlit as st

from hubert_ecg.errors import ConfigError
from serve.diagnosis.service import Answer, models
from serve.diagnosis.session import Session
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.trouble import Trouble
from serve.report.writer import WriterSettings
from serve.schemas import ModelOut


def sidebar(held: Session, settings: AppSettings) -> None:
    """Draw it; the service is asked for its checkpoints once in a session, and when the user says so."""
    back = isinstance(held.models, Trouble) and any(isinstance(each, Answer) for each in held.outcomes.values())
    if held.models is None or back:
        held.models = models(settings)
    with st.sidebar:
        st.html('<h2 class="hx-h2">The service</h2>')
        if isinstance(held.models, Trouble):
            st.write(f"{held.models.title} ({settings.service_url}).")
            if st.button("Check again", key="check"):
                held.models = None
                st.rerun()
        else:
            _choice(held, held.models, settings)
        st.html('<h2 class="hx-h2">Your data</h2>')
        st.caption(
            "Recordings stay in the app's memory while the page is open. The service gets the numbers of the ECG, "
            "the names of its leads, age, sex and whether a pacemaker was active; never a name, a date or a file. A "
            "language model gets something only if you agree to it."
        )
        if held.ecgs and st.button("Remove everything now", key="remove", icon=":material/delete:"):
            held.clear()
            st.rerun()


def _choice(held: Session, offered: list[ModelOut], settings: AppSettings) -> None:
    names = [model.name for model in offered]
    default = next((model.name for model in offered if model.default), names[0])
    name = default
    if len(names) > 1:
        name = st.selectbox("Checkpoint", names, index=names.index(held.model or default), key="checkpoint")
        held.choose(None if name == default else name)
    model = next(each for each in offered if each.name == name)
    st.caption(f"Checkpoint {name}, fingerprint {model.fingerprint}, at {settings.service_url}.")
    st.caption(
        f"Looks for: {', '.join(model.labels)}. {'Calibrated.' if model.calibrated else 'Not calibrated: its '}"
        f"{'' if model.calibrated else 'probabilities order ECGs, and are not frequencies.'} Licence: {model.licence}."
    )


def writer_choice(settings: AppSettings) -> tuple[WriterSettings, str | None] | str:
    """Name, address and key of the language model, as the user set them; or what is wrong with them."""
    url = st.text_input(
        "Address of the language model's server", settings.openai_url, key="writer-url", persist_state="session"
    )
    model = st.text_input("Language model", settings.openai_model, key="writer-model", persist_state="session")
    typed = st.text_input(
        "Key" if not settings.openai_key else "Key (one is set already)",
        type="password",
        key="writer-key",
        persist_state="session",
        help="Kept in memory while the page is open. A server on your own computer may need none.",
        autocomplete="off",
    )
    try:
        return WriterSettings(model=model, base_url=url, timeout_s=settings.openai_timeout_s), _key(
            settings, typed, url
        )
    except ConfigError as error:
        return str(error)


def _key(settings: AppSettings, typed: str, url: str) -> str | None:
    """The key of the environment is for the server of the environment; no other is given it."""
    return typed or (settings.openai_key if url == settings.openai_url else None)
