"""The real service over real HTTP: what it answers, and what it refuses."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import hubert_ecg
from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.measure import measure
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import CONDITIONS
from hubert_ecg.predictor.explain import Explainer
from serve.client import Client, ServiceError
from serve.schemas import PredictResponse
from tests.serve.service import Service, ecg, npy, running, save_classifier

NPY = {"content-type": "application/octet-stream"}
RATE = {"sampling_rate_hz": 500}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: save_classifier(folder / name, seed=seed) for seed, name in enumerate(("first", "second"))}


@pytest.fixture(scope="module")
def service(checkpoints: dict[str, str]) -> Iterator[Service]:
    with running(checkpoints, max_recordings=4, max_body_mib=8, max_duration_s=100, cpus_per_replica=0.5) as found:
        yield found


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with service.http() as client:
        yield client


def in_json(samples: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"samples": samples.tolist(), "sampling_rate_hz": 500, **more}


def probabilities(answer: PredictResponse, index: int = 0) -> list[float]:
    return [label.probability for label in answer.predictions[index].labels]


def expected(checkpoint: str, samples: np.ndarray) -> tuple[float, ...]:
    return hubert_ecg.load(checkpoint).predict(Recording(samples=samples, sampling_rate_hz=500)).probabilities


def test_all_kinds_of_bodies_give_what_the_library_gives(
    http: httpx.Client, checkpoints: dict[str, str], tmp_path: Path
) -> None:
    samples = ecg(1, "CLBBB")
    wanted = pytest.approx(expected(checkpoints["first"], samples), abs=1e-5)
    as_json = http.post("/v1/predict", json={"recording": in_json(samples)})
    as_npy = http.post("/v1/predict", content=npy(samples), headers=NPY, params=RATE)
    turned = http.post("/v1/predict", content=npy(samples.T), headers=NPY, params=RATE)
    as_file = http.post("/v1/predict", files=[("files", ("a.npy", npy(samples)))], data=RATE)
    for response in (as_json, as_npy, turned, as_file):
        answer = PredictResponse.model_validate_json(response.content)
        assert probabilities(answer) == wanted
        assert answer.model == "first"
        assert [label.label for label in answer.predictions[0].labels] == list(CONDITIONS)
        assert [label.positive for label in answer.predictions[0].labels] == [
            label.probability >= label.threshold for label in answer.predictions[0].labels
        ]
        assert answer.timings_ms.total >= answer.timings_ms.model > 0


def test_batches_and_several_checkpoints(service: Service, checkpoints: dict[str, str]) -> None:
    batch = np.stack([ecg(seed) for seed in range(3)])
    with Client(service.url, key=service.key) as client:
        answers = {name: client.predict(batch, sampling_rate_hz=500, model=name) for name in checkpoints}
        models = client.models().models
    for name, answer in answers.items():
        assert [each.index for each in answer.predictions] == [0, 1, 2]
        for index, samples in enumerate(batch):
            assert probabilities(answer, index) == pytest.approx(expected(checkpoints[name], samples), abs=1e-5)
    assert answers["first"].fingerprint != answers["second"].fingerprint
    assert [(model.name, model.default, model.calibrated) for model in models] == [
        ("first", True, False),
        ("second", False, False),
    ]


def test_measurements_uncertainty_and_scope_when_asked(service: Service) -> None:
    samples = ecg(2)
    with Client(service.url, key=service.key) as client:
        plain = client.predict(samples, sampling_rate_hz=500).predictions[0]
        full = client.predict(samples, sampling_rate_hz=500, measurements=True, uncertainty=True, paced=True)
    assert plain.measurements is None
    assert plain.labels[0].uncertainty is None
    assert plain.out_of_scope == []
    prediction = full.predictions[0]
    assert prediction.out_of_scope == ["paced"]
    assert all(label.uncertainty is not None for label in prediction.labels)
    assert any(label.uncertainty for label in prediction.labels)
    measured = {each.name: each.value for each in prediction.measurements or []}
    heart_rate = measure(Recording(samples=samples, sampling_rate_hz=500)).heart_rate.value
    assert measured["heart_rate"] == pytest.approx(heart_rate)


def test_a_child_is_out_of_scope(http: httpx.Client) -> None:
    answer = http.post("/v1/predict", json={"recording": in_json(ecg(), age_years=9)})
    assert answer.json()["predictions"][0]["out_of_scope"] == ["age under 18"]


def test_findings_come_with_the_answer(http: httpx.Client) -> None:
    samples = ecg()
    samples[7] = 0
    answer = http.post("/v1/predict", content=npy(samples), headers=NPY, params=RATE)
    found = {(each["kind"], each["lead"]) for each in answer.json()["predictions"][0]["findings"]}
    assert ("flat", "V2") in found


def test_embeddings(service: Service, checkpoints: dict[str, str]) -> None:
    samples = ecg(4)
    with Client(service.url, key=service.key) as client:
        answer = client.embed(samples, sampling_rate_hz=500)
    [row] = answer.embeddings
    assert len(row) == 128
    assert np.std(row) > 0


def zip_bomb() -> bytes:
    """A small file that unpacks to 96 MB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ecg.npy", npy(np.zeros((12, 1_000_000))))
    return packed.getvalue()


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "three leads": ({"json": {"recording": in_json(ecg()[:3])}}, 422, "recording.leads"),
    "rows of different lengths": (
        {"json": {"recording": {"samples": [[1.0, 2.0]] * 11 + [[1.0]], "sampling_rate_hz": 500}}},
        422,
        "recording.samples",
    ),
    "not a number": (
        {"content": b'{"recording": {"samples": [[NaN]], "sampling_rate_hz": 500}}'},
        422,
        "recording.samples.0.0",
    ),
    "no json": ({"content": b"{"}, 422, "body"),
    "unknown field": ({"json": {"recording": in_json(ecg()), "modle": "first"}}, 422, "modle"),
    "unknown unit": ({"json": {"recording": in_json(ecg(), units="nV")}}, 422, "recording.units"),
    "nothing at all": ({"json": {}}, 422, "recording"),
    "unknown model": ({"json": {"recording": in_json(ecg()), "model": "third"}}, 404, "model"),
    "too short": ({"json": {"recording": in_json(ecg()[:, :1000])}}, 422, "recording.samples"),
    "too many": ({"content": npy(np.stack([ecg()] * 5)), "headers": NPY, "params": RATE}, 413, "body"),
    "all NaN": ({"content": npy(np.full((12, 5000), np.nan)), "headers": NPY, "params": RATE}, 422, "body"),
    "no rate": ({"content": npy(ecg()), "headers": NPY}, 422, "sampling_rate_hz"),
    "1e9 samples declared": (
        {"content": npy(ecg()).replace(b"(12, 5000), }      ", b"(12, 1000000000), }"), "headers": NPY, "params": RATE},
        422,
        "body",
    ),
    "truncated DICOM": ({"files": [("files", ("a.dcm", bytes(128) + b"DICM\x02\x00"))]}, 422, "files.0"),
    "zip bomb": ({"files": [("files", ("a.npz", zip_bomb()))], "data": RATE}, 413, "files.0"),
    "a file under another name": ({"files": [("other", ("a.npy", npy(ecg())))]}, 422, "other"),
    "text": ({"content": b"hello", "headers": {"content-type": "text/plain"}}, 415, "content-type"),
    "wrong key": ({"json": {}, "headers": {"authorization": "Bearer wrong"}}, 401, "authorization"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_requests_are_refused_by_the_field(http: httpx.Client, fault: str) -> None:
    arguments, status, field = BAD[fault]
    response = http.post("/v1/predict", **arguments)
    problem = response.json()["error"]
    assert (response.status_code, problem["field"]) == (status, field), problem
    assert problem["code"]
    assert problem["message"]


def test_a_body_that_grows_too_large_is_refused(http: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(16):
            yield bytes(1 << 20)

    response = http.post("/v1/predict", content=pieces(), headers=NPY, params=RATE)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body too large")


def test_what_is_no_request_of_ours(http: httpx.Client) -> None:
    assert http.get("/v1/other").json()["error"]["code"] == "unknown path"
    response = http.get("/v1/predict")
    assert (response.status_code, response.json()["error"]["code"]) == (405, "unknown method")


def test_states_and_documentation(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").json() == {"status": "ready"}
    assert "version" in http.get("/version").json()
    assert http.get("/docs").status_code == 200
    document = http.get("/openapi.json").json()
    assert set(document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "application/octet-stream",
        "multipart/form-data",
    }
    assert "$ref" not in json.dumps(document["paths"]["/v1/predict"]["post"]["requestBody"])


def test_metrics_tell_requests_and_refusals_and_nothing_of_recordings(http: httpx.Client) -> None:
    http.post("/v1/predict", content=npy(ecg()), headers=NPY, params=RATE)
    http.post("/v1/predict", content=b"{", headers={"content-type": "application/json"})
    text = http.get("/metrics").text
    for name in (
        'hubert_ecg_requests_total{path="/v1/predict",status="200"}',
        'hubert_ecg_refusals_total{code="invalid JSON"}',
        'hubert_ecg_stage_seconds_count{stage="model"}',
        "hubert_ecg_batch_size_count",
        'hubert_ecg_positive_share{label="AFIB",model="first"}',
        'hubert_ecg_drift{label="AFIB",model="first"}',
    ):
        assert name in text


def test_the_client_says_what_was_wrong(service: Service) -> None:
    with Client(service.url, key=service.key) as client, pytest.raises(ServiceError, match="wanted 12") as caught:
        client.predict(ecg()[:3], sampling_rate_hz=500)
    assert (caught.value.status, caught.value.field) == (422, "leads")
    assert len(STANDARD_LEADS) == 12


def test_logs_hold_no_keys_and_no_recordings(service: Service, http: httpx.Client) -> None:
    http.post("/v1/predict", files=[("files", ("Jane_Doe.npy", npy(ecg()[:3])))], data=RATE)
    text = "".join(service.said())
    assert "Jane" not in text
    assert str(service.key) not in text


def test_explanations_are_those_of_the_library(service: Service, checkpoints: dict[str, str]) -> None:
    samples = ecg(5, "CRBBB")
    with Client(service.url, key=service.key) as client:
        [explanation] = client.explain(samples, "CRBBB", sampling_rate_hz=500).explanations
        [prediction] = client.predict(samples, sampling_rate_hz=500, explain="CRBBB").predictions
        with pytest.raises(ServiceError, match="wanted one of NORM") as caught:
            client.explain(samples, "XYZ", sampling_rate_hz=500)
    assert (caught.value.status, caught.value.field) == (422, "label")
    assert prediction.explanation == explanation
    found = np.array(explanation.attributions)
    assert found.shape == (12, 1000)
    explainer = Explainer(hubert_ecg.load(checkpoints["first"]))
    wanted = explainer.explain(Recording(samples=samples, sampling_rate_hz=500), "CRBBB")
    np.testing.assert_allclose(found, wanted.attributions, atol=1e-4 * np.abs(wanted.attributions).max())
    assert found.sum() == pytest.approx(explanation.score - explanation.baseline_score, rel=0.1)
