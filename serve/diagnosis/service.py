"""What the app asks of the service, with every failure turned into a Trouble that can be shown."""

from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Literal

from hubert_ecg.ecg.recording import Recording
from serve.client import Client, ServiceError
from serve.diagnosis.examined import with_reader_findings
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.trouble import Trouble, single_lead, trouble_of
from serve.schemas import ExplanationOut, ModelOut, PredictionOut

_RETRIES = 1
"""Somebody waits: twice the timeout is long enough, and the page has a button for more."""
_AT_ONCE = 4
"""Requests of a batch that are on their way together: the service joins them, and one slow one holds up no other."""
_EXPLAIN_FACTOR = 4
Task = Literal["multi_label", "multi_class", "regression"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the service said of one recording, and which model it was."""

    prediction: PredictionOut
    model: str
    fingerprint: str
    task: Task


def models(settings: AppSettings) -> list[ModelOut] | Trouble:
    """The checkpoints of the service; asked for briefly, as the page waits for it."""
    try:
        with Client(
            settings.service_url, key=settings.service_key, timeout_s=min(5, settings.timeout_s), retries=0
        ) as c:
            return c.models().models
    except ServiceError as error:
        return trouble_of(error, settings)


def predict(settings: AppSettings, recording: Recording, *, model: str | None, paced: bool = False) -> Answer | Trouble:
    """Probabilities, measurements and findings of one recording; a single lead is refused here."""
    with _client(settings) as client:
        return _predict(client, settings, recording, model=model, paced=paced)


def predict_all(
    settings: AppSettings,
    recordings: Mapping[int, Recording],
    *,
    model: str | None,
    paced: frozenset[int] = frozenset(),
) -> Generator[tuple[int, Answer | Trouble]]:
    """(number, outcome) of many recordings, as they come; what befalls the service itself ends the rest at once."""
    fatal: list[Trouble] = []

    def one(number: int) -> Answer | Trouble:
        if fatal:
            return fatal[0]
        outcome = _predict(client, settings, recordings[number], model=model, paced=number in paced)
        if isinstance(outcome, Trouble) and not outcome.of_recording:
            fatal.append(outcome)
        return outcome

    with _client(settings) as client:
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            waiting = {pool.submit(one, number): number for number in recordings}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:  # whoever starts over waits for none of them
            pool.shutdown(wait=False, cancel_futures=True)


def _predict(
    client: Client, settings: AppSettings, recording: Recording, *, model: str | None, paced: bool
) -> Answer | Trouble:
    if len(recording.lead_names) == 1:
        return single_lead(recording.lead_names[0])
    try:
        answer = client.predict(recording, model=model, measurements=True, uncertainty=True, paced=paced)
    except ServiceError as error:
        return trouble_of(error, settings)
    [prediction] = answer.predictions
    return Answer(
        prediction=with_reader_findings(prediction, recording.findings),
        model=answer.model,
        fingerprint=answer.fingerprint,
        task=answer.task,
    )


def explain(settings: AppSettings, recording: Recording, label: str, *, model: str | None) -> ExplanationOut | Trouble:
    """Which samples speak for a label: takes about as long as a hundred predictions."""
    try:
        with _client(settings, factor=_EXPLAIN_FACTOR) as client:
            [explanation] = client.explain(recording, label, model=model).explanations
    except ServiceError as error:
        return trouble_of(error, settings)
    return explanation


def _client(settings: AppSettings, factor: float = 1.0) -> Client:
    return Client(
        settings.service_url, key=settings.service_key, timeout_s=factor * settings.timeout_s, retries=_RETRIES
    )
