"""Whatever fails is answered in the service's own form. The application without Ray, and a model that fails."""

import logging
import resource
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from ray import serve

from serve.api import make_api
from serve.ingress import Ingress
from serve.schemas import ErrorResponse
from serve.settings import ServiceSettings
from tests.serve.service import ecg, npy, save_classifier

NPY = {"content-type": "application/octet-stream"}
RATE = {"sampling_rate_hz": 500}


class BrokenModels:
    """A handle of a deployment whose every call fails."""

    def options(self, **_: Any) -> "BrokenModels":
        return self

    def __getattr__(self, name: str) -> Any:
        async def fails(*_: Any) -> None:
            raise ValueError("weights of /secret/place are gone")

        return SimpleNamespace(remote=fails)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_classifier(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def opened(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TestClient]:
    def make(**settings: Any) -> TestClient:
        found = ServiceSettings(checkpoints={"c": checkpoint, "d": checkpoint}, **settings)
        ingress = Ingress(BrokenModels(), found)  # type: ignore[arg-type]
        monkeypatch.setattr(serve, "get_replica_context", lambda: SimpleNamespace(servable_object=ingress))
        return TestClient(make_api(found))

    return make


def problem(response: Any) -> tuple[int, str, str | None]:
    found = ErrorResponse.model_validate_json(response.content).error
    return response.status_code, found.code, found.field


def test_a_failing_model_is_not_ready_and_its_message_stays_in_the_log(
    opened: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    http = opened()
    assert problem(http.get("/ready"))[:2] == (503, "not ready")
    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        response = http.post("/v1/predict", content=npy(ecg()), headers=NPY, params=RATE)
    assert problem(response) == (500, "failed", None)
    assert "secret" not in response.text


def test_a_full_memory_folder_is_a_reason_to_come_again(
    opened: Callable[..., TestClient],
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        response = opened().post("/v1/predict", content=npy(ecg()), headers=NPY, params=RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert problem(response)[:2] == (503, "no room")
    assert response.headers["retry-after"] == "1"


def test_query_parameters_beside_a_body_that_holds_them_are_refused(opened: Callable[..., TestClient]) -> None:
    http = opened()
    body = {"recording": {"samples": ecg().tolist(), "sampling_rate_hz": 500}}
    assert problem(http.post("/v1/predict?model=d", json=body)) == (422, "invalid field", "model")
    files = {"files": ("a.npy", npy(ecg()))}
    assert problem(http.post("/v1/predict?model=d", files=files, data=RATE)) == (422, "invalid field", "model")


def test_a_batch_that_never_finds_room_is_told_so(opened: Callable[..., TestClient]) -> None:
    batch = npy(np.stack([ecg()] * 3))
    response = opened(max_waiting=2).post("/v1/predict", content=batch, headers=NPY, params=RATE)
    assert problem(response)[:2] == (413, "too many recordings")


def test_whoever_waits_as_long_as_told_is_answered(opened: Callable[..., TestClient]) -> None:
    http = opened(rate_limit_per_minute=18)
    refused = next(each for each in (http.get("/v1/models") for _ in range(9)) if each.status_code == 429)
    assert refused.headers["retry-after"] == "4"  # 3.3 s
