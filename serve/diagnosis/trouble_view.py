"""A trouble on the page: what it is, what to do, and a button to try again."""

import streamlit as st

from serve.diagnosis.trouble import Trouble

_ICONS = {
    "down": ":material/cloud_off:",
    "slow": ":material/hourglass_top:",
    "busy": ":material/group:",
    "key": ":material/key:",
    "refused": ":material/block:",
    "broken": ":material/error:",
}


def show_trouble(trouble: Trouble, *, key: str) -> bool:
    """Draw it; returns whether the user wants to try again."""
    text = f"**{trouble.title}.** {plain(trouble.detail)}\n\n{plain(trouble.advice)}"
    box = st.warning if trouble.kind in ("refused", "busy", "slow") else st.error
    box(text, icon=_ICONS[trouble.kind])
    return trouble.worth_retrying and st.button("Try again", key=key, icon=":material/refresh:")


def plain(text: str) -> str:
    """Words that are not ours, of a service or a file, as Markdown that shows them as they are."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]!#<>~$|:" else sign for sign in text)
