"""A typed client of the service, sync and async, and `python -m serve.client ecg.npy --sampling_rate_hz 500`.

    with Client("http://127.0.0.1:8000", key=key) as client:
        answer = client.predict("ecg.npy", sampling_rate_hz=500, measurements=True)
        print(answer.predictions[0].labels)

Requests that were refused for want of room, and those whose server died, are sent again after a pause that doubles;
predicting twice does no harm.
"""

import argparse
import asyncio
import io
import os
import random
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar, Unpack

import httpx
import numpy as np
from pydantic import BaseModel, ValidationError

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import HubertEcgError, InputError
from hubert_ecg.formats import referenced_files
from hubert_ecg.pipeline.commands import guarded
from serve.outgoing import json_body
from serve.schemas import EmbedResponse, ErrorResponse, ExplainResponse, ModelsResponse, PredictResponse

Source = str | os.PathLike[str] | np.ndarray | Recording | Sequence[Recording]
"""A file of any known format; samples [lead, time] or [batch, lead, time] in mV; or recordings that were read."""

AGAIN = frozenset({429, 500, 502, 503, 504})
"""Statuses after which the same request may be answered."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
LONGEST_ASKED_S = 60.0
"""The longest that the service may have a client wait."""
TIMED_OUT, UNREACHABLE = "timed out", "unreachable"
"""Codes of errors that are not the service's own: it took too long to answer, or there is none at the address."""
DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "HUBERT_ECG_API_KEY"
"""Where the command looks for the bearer key, which on a command line others could read."""


_Answer = TypeVar("_Answer", bound=BaseModel)


class ServiceError(HubertEcgError):
    """The service refused a request, or could not be reached: nobody, or somebody else, is at its address. `status` is
    None in the latter case."""

    def __init__(self, message: str, *, status: int | None = None, code: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field


class AskedOfFile(TypedDict, total=False):
    """What may be asked and said of any source."""

    sampling_rate_hz: float | None
    """For files that do not say it."""
    units: str
    """`mV`, `uV`, `V` or `auto`, for files that do not say it."""
    leads: str
    """Names of an array's leads, separated by commas."""
    model: str | None
    """Name of a checkpoint."""


class Asked(AskedOfFile, total=False):
    """What may be asked of a prediction."""

    measurements: bool
    uncertainty: bool
    explain: str | None
    """A label."""
    paced: bool


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that can be sent any number of times."""

    method: str
    path: str
    fields: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = "application/octet-stream"
    files: tuple[tuple[str, bytes], ...] = ()

    def arguments(self) -> dict[str, Any]:
        """Those of httpx's `request`."""
        if self.files:
            return {"files": [("files", each) for each in self.files], "data": dict(self.fields)}
        headers = {"content-type": self.content_type} if self.content is not None else {}
        return {"content": self.content, "params": dict(self.fields), "headers": headers}


Exchange = Generator[float | None, httpx.Response | httpx.TransportError | None, bytes]
"""The course of a call without its input and output. It yields None to have the request sent, and is given the response
or the error; or seconds to wait. It returns the body."""


class _Calls:
    """What both clients offer: each method describes a call and what becomes of its answer."""

    def __init__(self, base_url: str, *, key: str | None, timeout_s: float, retries: int) -> None:
        try:
            httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise ServiceError(f"{base_url}: wanted the service's address, {error}", code=UNREACHABLE) from error
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.retries = retries
        # Never through a proxy of the environment: what is sent is about patients.
        self.http: dict[str, Any] = {"base_url": base_url, "headers": headers, "timeout": timeout_s, "trust_env": False}


class Client(_Calls):
    """Calls the service and waits. Safe to use from several threads."""

    def __init__(
        self, base_url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 6
    ) -> None:
        """`timeout_s`: of each attempt. `retries`: attempts after the first."""
        super().__init__(base_url, key=key, timeout_s=timeout_s, retries=retries)
        self._client = httpx.Client(**self.http)

    def predict(self, source: Source, **asked: Unpack[Asked]) -> PredictResponse:
        """Probabilities of one recording or a batch. Raises ServiceError, and InputError for a missing file."""
        return _read(PredictResponse, self._run(upload("/v1/predict", source, dict(asked))))

    def embed(self, source: Source, **asked: Unpack[AskedOfFile]) -> EmbedResponse:
        """One vector per recording. Raises as `predict`."""
        return _read(EmbedResponse, self._run(upload("/v1/embed", source, dict(asked))))

    def explain(self, source: Source, label: str, **asked: Unpack[AskedOfFile]) -> ExplainResponse:
        """Which samples of which lead speak for a label. Raises as `predict`."""
        call = upload("/v1/explain", source, {"label": label, **asked})
        return _read(ExplainResponse, self._run(call))

    def models(self) -> ModelsResponse:
        """The checkpoints of the service."""
        return _read(ModelsResponse, self._run(Call(method="GET", path="/v1/models")))

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, call: Call) -> bytes:
        course = exchange(self.retries)
        outcome: httpx.Response | httpx.TransportError | None = None
        try:
            while True:
                wait_s = course.send(outcome)
                if wait_s is not None:
                    time.sleep(wait_s)
                    outcome = None
                    continue
                try:
                    outcome = self._client.request(call.method, call.path, **call.arguments())
                except httpx.TransportError as error:
                    outcome = error
        except StopIteration as end:
            body: bytes = end.value
            return body


class AsyncClient(_Calls):
    """The same, for asyncio."""

    def __init__(
        self, base_url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 6
    ) -> None:
        """As `Client`."""
        super().__init__(base_url, key=key, timeout_s=timeout_s, retries=retries)
        self._client = httpx.AsyncClient(**self.http)

    async def predict(self, source: Source, **asked: Unpack[Asked]) -> PredictResponse:
        """As `Client.predict`."""
        return _read(PredictResponse, await self._run(upload("/v1/predict", source, dict(asked))))

    async def embed(self, source: Source, **asked: Unpack[AskedOfFile]) -> EmbedResponse:
        """As `Client.embed`."""
        return _read(EmbedResponse, await self._run(upload("/v1/embed", source, dict(asked))))

    async def explain(self, source: Source, label: str, **asked: Unpack[AskedOfFile]) -> ExplainResponse:
        """As `Client.explain`."""
        call = upload("/v1/explain", source, {"label": label, **asked})
        return _read(ExplainResponse, await self._run(call))

    async def models(self) -> ModelsResponse:
        """As `Client.models`."""
        return _read(ModelsResponse, await self._run(Call(method="GET", path="/v1/models")))

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, call: Call) -> bytes:
        course = exchange(self.retries)
        outcome: httpx.Response | httpx.TransportError | None = None
        try:
            while True:
                wait_s = course.send(outcome)
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                    outcome = None
                    continue
                try:
                    outcome = await self._client.request(call.method, call.path, **call.arguments())
                except httpx.TransportError as error:
                    outcome = error
        except StopIteration as end:
            body: bytes = end.value
            return body


def exchange(retries: int) -> Exchange:
    """Send; where the answer may be another one later, wait twice as long as before, or (within reason) as long as the
    service says."""
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(retries + 1)):
        outcome = yield None
        asked_s = 0.0
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in AGAIN or not left:
                return _content(outcome)
            asked_s = _retry_after_s(outcome)
        elif not left:
            raise _not_answered(outcome)
        # Many clients that were refused together do not come back together.
        yield max(asked_s, pause_s) * random.uniform(1.0, 1.5)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    raise AssertionError("unreachable")


def upload(path: str, source: Source, asked: Mapping[str, Any]) -> Call:
    """The call that sends a source: an array or a .npy as it is, recordings as JSON, other files as a form."""
    if not isinstance(source, str | os.PathLike | np.ndarray):
        recordings = [source] if isinstance(source, Recording) else source
        content = json_body(recordings, {name: value for name, value in asked.items() if value is not False})
        return Call(method="POST", path=path, content=content, content_type="application/json")
    fields = {name: _text(value) for name, value in asked.items() if value not in (None, False)}
    if isinstance(source, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, source, allow_pickle=False)
        return Call(method="POST", path=path, fields=fields, content=buffer.getvalue())
    place = os.fspath(source)
    if not os.path.isfile(place):
        raise InputError(f"{place}: no such file; check the path")
    if place.lower().endswith(".npy"):
        return Call(method="POST", path=path, fields=fields, content=Path(place).read_bytes())
    folder = os.path.dirname(place)
    companions = referenced_files(place) if place.lower().endswith(".hea") else ()
    names = dict.fromkeys([os.path.basename(place), *companions])
    return Call(
        method="POST",
        path=path,
        fields=fields,
        files=tuple((name, Path(folder, name).read_bytes()) for name in names),
    )


def _not_answered(outcome: httpx.TransportError | None) -> ServiceError:
    if isinstance(outcome, httpx.TimeoutException) and not isinstance(outcome, httpx.ConnectTimeout):
        return ServiceError(f"the service took too long to answer ({outcome!r}); try again later", code=TIMED_OUT)
    return ServiceError(
        f"the service could not be reached ({outcome!r}); check its address and that it runs", code=UNREACHABLE
    )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(max(0.0, float(response.headers.get("retry-after", 0))), LONGEST_ASKED_S)
    except ValueError:
        return 0.0  # a date: our own pause then


def _content(response: httpx.Response) -> bytes:
    if response.status_code == 200:
        return response.content
    if response.status_code < 400:
        raise _somebody_else(f"status {response.status_code}")
    try:
        problem = ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        raise ServiceError(
            f"the service answered {response.status_code}: {response.text[:200]}", status=response.status_code
        ) from None
    raise ServiceError(problem.message, status=response.status_code, code=problem.code, field=problem.field)


def _read(kind: type[_Answer], body: bytes) -> _Answer:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _somebody_else(f"no {kind.__name__}") from error


def _somebody_else(got: str) -> ServiceError:
    return ServiceError(f"wanted an answer of the service, got {got}; check its address", code=UNREACHABLE)


def main() -> None:
    """Send one file and print what the model says of it."""
    parser = argparse.ArgumentParser(prog="python -m serve.client", description="Ask the service about an ECG.")
    parser.add_argument("file", help="of any known format; of a WFDB record its .hea")
    parser.add_argument("--url", default=DEFAULT_URL, help="address of the service")
    parser.add_argument("--sampling_rate_hz", type=float, help="for files that do not say it, .npy say")
    parser.add_argument("--model", help="name of a checkpoint; the first by default")
    parser.add_argument("--measurements", action="store_true", help="also heart rate, PR, QRS, QT, QTc and axis")
    parser.add_argument("--uncertainty", action="store_true", help="also the spread over crops")
    parser.add_argument("--json", action="store_true", help="the whole answer as JSON")
    flags = parser.parse_args()
    with Client(flags.url, key=os.environ.get(KEY_VARIABLE)) as client:
        answer = client.predict(
            flags.file,
            sampling_rate_hz=flags.sampling_rate_hz,
            model=flags.model,
            measurements=flags.measurements,
            uncertainty=flags.uncertainty,
        )
    print(answer.model_dump_json(indent=2) if flags.json else "\n".join(_lines(answer)))


def _lines(answer: PredictResponse) -> Iterator[str]:
    for prediction in answer.predictions:
        yield f"recording {prediction.index}"
        if prediction.abstained:
            yield f"  NOT TO BE USED: {prediction.abstain_reason}"
        for label in prediction.labels:
            spread = "" if label.uncertainty is None else f" +- {label.uncertainty:.3f}"
            verdict = "  positive" if label.positive else ""
            yield f"  {label.title:<40} {label.probability:6.3f}{spread}{verdict}"
        for measurement in prediction.measurements or ():
            value = measurement.reason if measurement.value is None else f"{measurement.value:.0f} {measurement.unit}"
            yield f"  {measurement.name:<40} {value}"
        yield from (f"  {finding.severity}: {finding.detail}" for finding in prediction.findings)
        yield from (f"  outside the model's scope: {reason}" for reason in prediction.out_of_scope)
    yield answer.notice


if __name__ == "__main__":
    sys.exit(guarded(main))
