"""The service's OpenAPI document: its examples are requests that it takes, and it says where a key is asked for."""

import json
from typing import Any

import pytest

from hubert_ecg.ecg.preprocess import PreprocessConfig
from serve.answers import prepare
from serve.api import make_api
from serve.bodies import Limits
from serve.requests import Body, _of_json
from serve.schemas import EmbedRequest, ExplainRequest, PredictRequest
from serve.settings import ServiceSettings

LIMITS = Limits(max_recordings=1, max_duration_s=60, max_bytes=1 << 20)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    api = make_api(ServiceSettings(checkpoints={"c": "/c"}))
    found: dict[str, Any] = json.loads(json.dumps(api.openapi()))
    return found


@pytest.mark.parametrize(
    ("path", "kind"), [("predict", PredictRequest), ("embed", EmbedRequest), ("explain", ExplainRequest)]
)
def test_the_example_is_a_request_that_is_taken(document: dict[str, Any], path: str, kind: Body) -> None:
    content = document["paths"][f"/v1/{path}"]["post"]["requestBody"]["content"]["application/json"]
    asked = _of_json(kind, json.dumps(content["example"]).encode(), LIMITS)
    [received] = asked.received
    # By the strictest contract, which refuses a recording with leads missing: the others follow from those given.
    found = prepare(received, 0, PreprocessConfig(missing_leads="refuse"), measurements=False)
    assert found.recording.samples.shape == (12, 500)
    assert not found.out_of_scope
    assert not [finding for finding in found.findings if finding.severity == "severe"]


def test_keys_are_where_a_client_looks_for_them(document: dict[str, Any]) -> None:
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation.get("security", []) == ([{name: []}] if path.startswith("/v1/") else []), path
            assert ("401" in operation["responses"]) == path.startswith("/v1/")
