"""The FastAPI application: routes, their documentation, and what every answer goes through."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from pydantic import BaseModel
from ray import serve
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serve.example import example
from serve.ingress import Ingress
from serve.limits import BodyLimit, Counted
from serve.problems import Refusal
from serve.requests import FORMS, NPY_TYPES, Body
from serve.schemas import (
    EmbedRequest,
    EmbedResponse,
    ErrorResponse,
    ExplainRequest,
    ExplainResponse,
    ModelsResponse,
    PredictRequest,
    PredictResponse,
)
from serve.settings import ServiceSettings
from serve.telemetry import of_this_process

log = logging.getLogger("ray.serve")

DESCRIPTION = """Predictions of HuBERT-ECG classifiers for 12-lead ECGs. **Research software, not a medical device: no
answer of this service is a diagnosis.** Send an ECG as JSON numbers, as a raw `.npy`, or as a file of any known
format."""
KEY_SCHEME = "key"
KEYED: dict[str, Any] = {"security": [{KEY_SCHEME: []}]}
"""Of routes that ask for one."""
Method = Callable[[Ingress, Request], Awaitable[Response]]
_STATUSES = {
    401: "No or wrong key.",
    404: "Unknown checkpoint.",
    413: "Too much at once.",
    415: "Unknown content type.",
    422: "Something about the request or a recording is wrong; `field` says what.",
    429: "Too many requests; see Retry-After.",
    500: "The service failed; its log says why.",
    503: "Overloaded; see Retry-After.",
}


class _Documented(FastAPI):
    """Says in its document, too, that callers have a key; the routes themselves check it before they read a body."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["securitySchemes"] = {
            KEY_SCHEME: {
                "type": "http",
                "scheme": "bearer",
                "description": "A key from whoever runs the service; a service without keys takes any.",
            }
        }
        return document


def make_api(settings: ServiceSettings) -> FastAPI:
    """The application whose routes call the methods of the ingress of their process."""
    api = _Documented(title="HuBERT-ECG", description=DESCRIPTION, version="1")
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorResponse, "description": text} for status, text in _STATUSES.items()
    }
    posts: tuple[tuple[str, Method, Body, type[BaseModel]], ...] = (
        ("/v1/predict", Ingress.predict, PredictRequest, PredictResponse),
        ("/v1/embed", Ingress.embed, EmbedRequest, EmbedResponse),
        ("/v1/explain", Ingress.explain, ExplainRequest, ExplainResponse),
    )
    for path, method, asked, answered in posts:
        api.add_api_route(
            path,
            _endpoint(method),
            methods=["POST"],
            responses={200: {"model": answered}, **errors},
            openapi_extra={"requestBody": _bodies(asked), "parameters": _query(asked), **KEYED},
        )
    gets: tuple[tuple[str, Method, dict[int | str, dict[str, Any]]], ...] = (
        ("/v1/models", Ingress.models_there, {200: {"model": ModelsResponse}, **_some(errors, 401, 429, 503)}),
        ("/health", Ingress.health, {}),
        ("/ready", Ingress.ready, _some(errors, 503)),
        ("/version", Ingress.version, {}),
        ("/metrics", Ingress.metrics, {}),
    )
    for path, method, responses in gets:
        keyed = KEYED if 401 in responses else None
        api.add_api_route(path, _endpoint(method), methods=["GET"], responses=responses, openapi_extra=keyed)
    api.add_exception_handler(Refusal, _refused)
    api.add_exception_handler(HTTPException, _other)
    api.add_exception_handler(ClientDisconnect, _gone)
    api.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    api.add_middleware(Counted)
    if settings.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    return api


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    of_this_process().refusals.labels(error.problem.code).inc()
    return Response(error.body(), error.status, error.headers, media_type="application/json")


def _other(_: Request, error: Exception) -> Response:
    """What Starlette refuses itself, unknown paths and methods, in our form."""
    assert isinstance(error, HTTPException)
    code = {404: "unknown path", 405: "unknown method"}.get(error.status_code, "refused")
    refusal = Refusal(error.status_code, code, str(error.detail), headers=error.headers or {})
    return _refused(_, refusal)


def _gone(_: Request, __: Exception) -> Response:
    """The sender went away while the body was read; nobody reads this."""
    return Response(status_code=499)


def _endpoint(method: Method) -> Callable[..., Awaitable[Response]]:
    """A method of the ingress as an endpoint, on the one that lives in the process that answers."""

    async def endpoint(request: Request) -> Response:
        try:
            return await method(serve.get_replica_context().servable_object, request)
        except (Refusal, HTTPException, ClientDisconnect):
            raise
        except Exception as error:
            log.exception("%s failed", method.__name__)
            raise Refusal(500, "failed", "the service failed at this request; its log says why") from error

    endpoint.__name__, endpoint.__doc__ = method.__name__, method.__doc__
    return endpoint


def _some(errors: dict[int | str, dict[str, Any]], *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: errors[status] for status in statuses}


def _bodies(asked: Body) -> dict[str, Any]:
    """The three kinds of body, for the documentation."""
    file = {"type": "string", "format": "binary"}
    form = _inlined(FORMS[asked])
    shown = {"recording": example()} | ({"label": "AFIB"} if asked is ExplainRequest else {})
    return {
        "required": True,
        "content": {
            "application/json": {"schema": _inlined(asked), "example": shown},
            NPY_TYPES[0]: {"schema": file | {"description": "A .npy of shape (12, n), (n, 12) or a batch."}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files", *form.get("required", [])],
                    "properties": {"files": {"type": "array", "items": file}} | form["properties"],
                }
            },
        },
    }


def _query(asked: Body) -> list[dict[str, Any]]:
    """The query parameters that go with a .npy."""
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": "With a .npy body only."}
        for name, schema in _inlined(FORMS[asked])["properties"].items()
    ]


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON schema without references, which point to another place inside of an OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(definitions[value["$ref"].rsplit("/", 1)[1]])
            return {key: resolved(each) for key, each in value.items()}
        return [resolved(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = resolved(schema)
    return found
