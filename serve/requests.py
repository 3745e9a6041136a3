"""From an HTTP request to what it asks for: recordings and options, whichever of the three kinds of body it has."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve import bodies
from serve.bodies import Limits, Received
from serve.problems import Refusal, of_validation
from serve.schemas import EmbedRequest, ExplainRequest, Options, PredictRequest, RecordingIn, Units

MAX_FILES = 256
FILES = "files"
"""The form field that holds them."""
NPY_TYPES = ("application/octet-stream", "application/x-npy", "application/x-numpy")


_READERS = ThreadPoolExecutor(4, thread_name_prefix="reader")
"""So many bodies are made recordings of at once: each takes a multiple of its size meanwhile."""


class Form(BaseModel):
    """What goes beside a .npy (as query parameters) or uploaded files (as form fields): which checkpoint, and what the
    files do not say of themselves."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of the checkpoint; the first by default.")
    sampling_rate_hz: FiniteFloat | None = Field(None, gt=0, description="For files that do not say it: .npy, say.")
    units: Units = "auto"
    leads: str | None = Field(None, description="Names of the leads of an array, separated by commas.")
    paced: bool = False

    def options(self) -> Options:
        return Options(model=self.model)


class PredictForm(Form):
    """The same, with the options of a prediction."""

    measurements: bool = False
    uncertainty: bool = False
    explain: str | None = Field(None, description="A label to explain.")

    def options(self) -> Options:
        return Options(
            model=self.model, measurements=self.measurements, uncertainty=self.uncertainty, explain=self.explain
        )


class ExplainForm(Form):
    """The same, with what is to be explained."""

    label: str = Field(description="One of the checkpoint's labels.")

    def options(self) -> Options:
        return Options(model=self.model, explain=self.label)


Body = type[PredictRequest | EmbedRequest | ExplainRequest]
"""What an endpoint takes as JSON."""
FORMS: dict[Body, type[Form]] = {PredictRequest: PredictForm, EmbedRequest: Form, ExplainRequest: ExplainForm}
"""And what it takes beside files."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, understood."""

    options: Options
    received: list[Received]


async def understand(request: Request, kind: Body, limits: Limits) -> Asked:
    """Read the body and make recordings of it, in a thread. Raises a Refusal that names the field."""
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type not in NPY_TYPES and (beside := next(iter(request.query_params), None)):
        message = f"{beside}: wanted in the body, got a query parameter; those go with a .npy only"
        raise Refusal(422, "invalid field", message, field=beside)
    if media_type == "multipart/form-data":
        form, files = await _form(request, FORMS[kind], limits)
        return await _in_thread(_of_files, form, files, limits)
    body = await request.body()
    if media_type in NPY_TYPES:
        form = _checked_form(FORMS[kind], dict(request.query_params))
        return await _in_thread(_of_npy, form, body, limits)
    if media_type in ("application/json", ""):
        return await _in_thread(_of_json, kind, body, limits)
    raise Refusal(
        415,
        "unknown content type",
        f"content-type: wanted application/json, {NPY_TYPES[0]} or multipart/form-data, got {media_type[:100]}",
        field="content-type",
    )


async def _in_thread(make: Callable[..., Asked], *arguments: Any) -> Asked:
    return await asyncio.get_running_loop().run_in_executor(_READERS, make, *arguments)


def _of_json(kind: Body, body: bytes, limits: Limits) -> Asked:
    try:
        asked = kind.model_validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from error
    given: list[RecordingIn] | None = asked.recordings
    if (asked.recording is None) == (given is None):
        raise Refusal(
            422, "invalid field", "wanted either recording or recordings, got both or none", field="recording"
        )
    single = asked.recording is not None
    chosen = [asked.recording] if asked.recording is not None else given or []
    options = asked if isinstance(asked, PredictRequest) else Options(model=asked.model)
    if isinstance(asked, ExplainRequest):
        options = Options(model=asked.model, explain=asked.label)
    return Asked(options=options, received=bodies.from_json(chosen, single=single, limits=limits))


def _of_npy(form: Form, body: bytes, limits: Limits) -> Asked:
    return Asked(
        options=form.options(),
        received=bodies.from_npy(body, _read_options(form, limits), paced=form.paced, limits=limits),
    )


def _of_files(form: Form, files: list[tuple[str, bytes]], limits: Limits) -> Asked:
    return Asked(
        options=form.options(),
        received=bodies.from_files(files, _read_options(form, limits), paced=form.paced, limits=limits),
    )


def _read_options(form: Form, limits: Limits) -> Any:
    leads = [name.strip() for name in form.leads.split(",")] if form.leads else None
    return bodies.options_of(form.sampling_rate_hz, form.units, leads, limits)


async def _form(request: Request, kind: type[Form], limits: Limits) -> tuple[Form, list[tuple[str, bytes]]]:
    parser = MultiPartParser(request.headers, request.stream(), max_files=MAX_FILES, max_fields=len(kind.model_fields))
    # What is below the body's limit stays in memory: no patient's data on a disk.
    parser.spool_max_size = limits.max_bytes
    try:
        content = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refusal(
            422, "invalid form", f"body: wanted multipart/form-data; {str(error)[:200]}", field="body"
        ) from error
    fields: dict[str, Any] = {}
    files: list[tuple[str, bytes]] = []
    for name, value in content.multi_items():
        if isinstance(value, UploadFile):
            if name != FILES:
                raise Refusal(422, "invalid field", f"{name}: wanted files under the name {FILES}", field=name)
            files.append((value.filename or "", await value.read()))
        else:
            fields[name] = value
    await content.close()
    return _checked_form(kind, fields), files


def _checked_form(kind: type[Form], fields: Mapping[str, Any]) -> Form:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise of_validation(error) from error
