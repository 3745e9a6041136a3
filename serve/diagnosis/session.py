"""What one user's session holds, in memory and nowhere else; it is gone with the session."""

from dataclasses import dataclass, field, replace
from typing import Literal, cast

import streamlit as st

from hubert_ecg.ecg.finding import says_paced
from hubert_ecg.ecg.recording import Recording
from serve.diagnosis.examined import examined
from serve.diagnosis.service import Answer
from serve.diagnosis.trouble import Trouble
from serve.report.check import Contradiction
from serve.report.facts import Facts, facts_of
from serve.schemas import ExplanationOut, ModelOut, PredictionOut

_HELD = "held"
Sex = Literal["female", "male"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ecg:
    """One recording of the session."""

    number: int
    """Unique in the session."""
    name: str
    """The file's, or the sample's."""
    recording: Recording
    paced: bool = False
    """Whether its file says that a pacemaker was active, or the user; the service sees the signal alone."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A report that a language model wrote, and where it contradicts the facts."""

    text: str
    model: str
    contradictions: tuple[Contradiction, ...]


@dataclass(kw_only=True, eq=False)
class Session:
    """All of it; what belongs to an ECG is found by its number."""

    ecgs: dict[int, Ecg] = field(default_factory=dict)
    outcomes: dict[int, Answer | Trouble] = field(default_factory=dict)
    alone: dict[int, PredictionOut] = field(default_factory=dict)
    """What was found without the service, for those ECGs that it gave no answer about."""
    explanations: dict[tuple[int, str], ExplanationOut | Trouble] = field(default_factory=dict)
    written: dict[int, Written] = field(default_factory=dict)
    shown: int | None = None
    """The ECG on the page; None for the start page or the batch."""
    adding: bool = False
    """Whether the start page is on although there are ECGs."""
    rates_hz: dict[str, float] = field(default_factory=dict)
    """What the user said of uploaded files, by name."""
    models: list[ModelOut] | Trouble | None = None
    """Of the service; None before it was asked."""
    model: str | None = None
    """The checkpoint that is to answer; None for the service's default."""
    uploads: int = 0
    """Changes the upload widget's key, which empties it."""
    next_number: int = 0

    def add(self, name: str, recording: Recording) -> int:
        """Take a recording in; returns its number."""
        number, self.next_number = self.next_number, self.next_number + 1
        self.ecgs[number] = Ecg(number=number, name=name, recording=recording, paced=says_paced(recording.findings))
        return number

    def describe(self, number: int, *, age_years: float | None, sex: Sex | None, paced: bool) -> None:
        """Say of an ECG's patient what its file does not; what was answered before is asked anew."""
        ecg = self.ecgs[number]
        recording = replace(ecg.recording, age_years=age_years, sex=sex)
        self.ecgs[number] = replace(ecg, recording=recording, paced=paced)
        self.forget(number)

    def forget(self, number: int) -> None:
        """Drop what was answered about an ECG, so that it is asked again."""
        self.outcomes.pop(number, None)
        self.alone.pop(number, None)
        self.written.pop(number, None)
        for key in [key for key in self.explanations if key[0] == number]:
            del self.explanations[key]

    def clear(self) -> None:
        """Everything goes that is about a recording: what was uploaded, what was said of it, and what was typed."""
        for kept in (self.ecgs, self.outcomes, self.alone, self.explanations, self.written, self.rates_hz):
            kept.clear()
        for key in [key for key in st.session_state if key != _HELD]:
            del st.session_state[key]
        self.shown, self.adding, self.uploads = None, False, self.uploads + 1

    def choose(self, model: str | None) -> None:
        """Another checkpoint: what the last one said is forgotten."""
        if model != self.model:
            self.model = model
            for number in self.ecgs:
                self.forget(number)

    def prediction(self, number: int) -> PredictionOut:
        """The service's answer, or what can be said without it."""
        outcome = self.outcomes.get(number)
        if isinstance(outcome, Answer):
            return outcome.prediction
        if number not in self.alone:
            self.alone[number] = examined(self.ecgs[number].recording)
        return self.alone[number]

    def facts(self, number: int) -> Facts:
        """What the report, the PDF and the table are made of."""
        outcome, recording = self.outcomes.get(number), self.ecgs[number].recording
        answer = outcome if isinstance(outcome, Answer) else None
        trouble = outcome if isinstance(outcome, Trouble) else None
        return facts_of(
            self.prediction(number),
            model=answer.model if answer else "none",
            fingerprint=answer.fingerprint if answer else "none",
            task=answer.task if answer else "multi_label",
            age_years=recording.age_years,
            sex=cast(Sex | None, recording.sex),
            duration_s=recording.duration_s,
            unanswered=None if answer else trouble.title if trouble else "it has not been asked",
        )


def session() -> Session:
    """That of the user whose page is being drawn."""
    if _HELD not in st.session_state:
        st.session_state[_HELD] = Session()
    return cast(Session, st.session_state[_HELD])
