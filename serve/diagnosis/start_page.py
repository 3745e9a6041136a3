"""The first page: upload files, say what they do not say of themselves, or take a sample."""

from collections.abc import Mapping, Sequence

import streamlit as st

from hubert_ecg.ecg.simulate import CONDITIONS
from serve.diagnosis.samples import sample, sample_title
from serve.diagnosis.session import Session
from serve.diagnosis.trouble_view import plain
from serve.diagnosis.uploads import FileRead, read_uploads, title_of

FORMATS = (
    "NumPy (.npy, .npz), WFDB (.hea together with .dat or .mat), EDF, BDF, DICOM, HL7 aECG, GE MUSE and Philips XML, "
    "CSV with lead names. Several files at once are welcome."
)
_HIGHEST_RATE_HZ = 100_000.0


def start_page(held: Session) -> None:
    """Draw it; what is taken in ends on the page of the ECG, or of the batch."""
    if held.adding and st.button(f"Back to the {len(held.ecgs)} ECGs", icon=":material/arrow_back:", key="back"):
        _leave(held, list(held.ecgs))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.html('<h2 class="hx-h2">Upload ECGs</h2>')
        files = st.file_uploader("ECG files", accept_multiple_files=True, key=f"files-{held.uploads}", help=FORMATS)
        st.caption("Files stay in memory while your page is open; nothing is written to a disk, or kept afterwards.")
        if files:
            _take_in(held, [(file.name, file.getvalue()) for file in files])
        else:
            st.caption(FORMATS)
    with right:
        st.html('<h2 class="hx-h2">Or try a sample</h2>')
        _samples(held)


def _samples(held: Session) -> None:
    for condition in CONDITIONS:
        if st.button(sample_title(condition), key=f"sample-{condition}", width="stretch"):
            number = held.add(sample_title(condition), sample(condition))
            _leave(held, [number])
    if st.button("All six as a batch", key="sample-all", width="stretch"):
        _leave(held, [held.add(sample_title(condition), sample(condition)) for condition in CONDITIONS])


def _take_in(held: Session, files: Sequence[tuple[str, bytes]]) -> None:
    """Read, ask for missing rates, say what is wrong; a single good recording is shown at once."""
    rates = _known_rates(held, [name for name, _ in files])
    read = read_uploads(files, rates)
    unrated = [each.name for each in read if each.needs_rate]
    problems = [each for each in read if each.problem]
    for each in problems:
        st.error(plain(each.problem or ""), icon=":material/error:")
    if unrated:
        _ask_rates(held, unrated)
        return
    count = sum(len(each.recordings) for each in read)
    if count == 1 and not problems:
        _add(held, read)
    elif count == 1:
        if st.button("Show the ECG that could be read", type="primary"):
            _add(held, read)
    elif count:
        st.write(f"{count} ECGs read.")
        if st.button(f"Process {count} ECGs as a batch", type="primary", key="process"):
            _add(held, read)


def _known_rates(held: Session, names: Sequence[str]) -> Mapping[str, float]:
    return {name: held.rates_hz[name] for name in names if name in held.rates_hz}


def _ask_rates(held: Session, names: Sequence[str]) -> None:
    """One rate for all files, or one for each."""
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    st.info(
        f"How many samples per second do these files have? They do not say: {plain(shown)}.", icon=":material/speed:"
    )
    differ = len(names) > 1 and st.toggle("They have different rates", key="rates-differ")
    with st.form("rates", border=False):
        asked = names if differ else ["all"]
        given = {
            name: st.number_input(
                "Sampling rate in Hz" if name == "all" else f"Sampling rate of {name} in Hz",
                min_value=1.0,
                max_value=_HIGHEST_RATE_HZ,
                value=None,
                placeholder="500, for example",
                format="%g",
                key=f"rate-{name}",
            )
            for name in asked
        }
        if st.form_submit_button("Continue", type="primary"):
            if any(rate is None for rate in given.values()):
                st.error("Type the sampling rate as a number; the recorder's manual or the exporting program knows it.")
                return
            held.rates_hz |= {name: float(given["all" if not differ else name] or 0) for name in names}
            st.rerun()


def _add(held: Session, read: Sequence[FileRead]) -> None:
    numbers = []
    for each in read:
        for place, recording in enumerate(each.recordings):
            numbers.append(held.add(title_of(each.name, place, len(each.recordings)), recording))
    _leave(held, numbers)


def _leave(held: Session, numbers: Sequence[int]) -> None:
    """To the page of what came in; the upload widget is emptied, so that it keeps nothing."""
    held.shown = numbers[0] if len(held.ecgs) == 1 else None
    held.adding = False
    held.uploads += 1
    held.rates_hz = {}
    st.rerun()
