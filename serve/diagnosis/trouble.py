"""What can stand between the user and an answer of the service, and what to do about each of them."""

from dataclasses import dataclass
from typing import Literal

from serve.client import TIMED_OUT, ServiceError
from serve.diagnosis.settings import TIMEOUT_VARIABLE, URL_VARIABLE, AppSettings

Kind = Literal["down", "slow", "busy", "key", "refused", "broken"]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why there is no answer, in words for the user."""

    kind: Kind
    title: str
    detail: str
    """What the service said, or what was seen of it."""
    advice: str

    @property
    def of_recording(self) -> bool:
        """Whether it is about this recording, so that others may still be answered."""
        return self.kind == "refused"

    @property
    def worth_retrying(self) -> bool:
        """Whether the same request may be answered later."""
        return self.kind != "refused"


def trouble_of(error: ServiceError, settings: AppSettings) -> Trouble:
    """The trouble that an error of the client means."""
    if error.status is None:
        return _slow(settings) if error.code == TIMED_OUT else _down(settings)
    if error.status in (401, 403):
        return Trouble(
            kind="key",
            title="The service wants a key that this app does not have",
            detail=str(error),
            advice="Whoever runs the app sets HUBERT_ECG_API_KEY to a key of the service and starts it again.",
        )
    if error.status in (429, 503):
        return Trouble(
            kind="busy",
            title="The service is busy",
            detail=str(error),
            advice="Nothing is wrong with your recording. Wait half a minute and try again.",
        )
    if error.status >= 500:
        return Trouble(
            kind="broken",
            title="The service failed",
            detail=str(error),
            advice="Try again. If it fails again, tell whoever runs the service; its log says why.",
        )
    return Trouble(
        kind="refused",
        title="The service cannot judge this recording",
        detail=str(error),
        advice=_ADVICE.get(error.code, "Check the file, or export it again from the recorder."),
    )


def single_lead(name: str) -> Trouble:
    """One lead is never sent: the model would have to guess the other eleven."""
    return Trouble(
        kind="refused",
        title="One lead is not enough for the model",
        detail=f"It learned from twelve leads at once, and this recording has one ({name}). Bundle branch blocks, for "
        "example, are told by comparing the chest leads with one another.",
        advice="The lead is shown and measured below. For the model's answer upload all twelve leads.",
    )


def _down(settings: AppSettings) -> Trouble:
    return Trouble(
        kind="down",
        title="The service cannot be reached",
        detail=f"Nothing answers at {settings.service_url}.",
        advice="If it has just been started, it needs about a minute: wait and try again. Otherwise start it with "
        f"`make serve`, or set {URL_VARIABLE} to its address. The ECG itself is shown and measured without it.",
    )


def _slow(settings: AppSettings) -> Trouble:
    return Trouble(
        kind="slow",
        title="The service took too long to answer",
        detail=f"No answer within {settings.timeout_s:g} s.",
        advice="It may be busy with others: try again in a minute. If it stays slow, whoever runs the app can wait "
        f"longer ({TIMEOUT_VARIABLE}) or give the service more processes.",
    )


_ADVICE = {
    "missing leads": "The model needs all twelve leads. III, aVR, aVL and aVF are derived where I and II are there, "
    "chest leads cannot be. The ECG is shown and measured below.",
    "too short": "Record at least 5 seconds, better 10.",
    "too long": "Cut the recording: a standard ECG has 10 seconds.",
    "body too large": "Cut the recording: a standard ECG has 10 seconds.",
}
