"""The course of a call: what is sent again, after which pause, and what is raised."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError, InputError
from serve.client import FIRST_PAUSE_S, LONGEST_ASKED_S, TIMED_OUT, UNREACHABLE, Client, ServiceError, exchange, upload
from serve.schemas import PredictRequest


def response(status: int, body: bytes = b"{}", **headers: str) -> httpx.Response:
    return httpx.Response(
        status, content=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def run(retries: int, outcomes: list[httpx.Response | httpx.TransportError]) -> tuple[bytes, list[float]]:
    """The body that a call ends with, and the pauses."""
    course, pauses, left = exchange(retries), [], list(outcomes)
    wait = course.send(None)
    try:
        while True:
            if wait is None:
                wait = course.send(left.pop(0))
            else:
                pauses.append(wait)
                wait = course.send(None)
    except StopIteration as end:
        assert not left
        return end.value, pauses


def test_a_good_answer_is_returned_at_once() -> None:
    assert run(3, [response(200, b"yes")]) == (b"yes", [])


def test_pauses_double_and_follow_the_service() -> None:
    lost = httpx.ConnectError("refused")
    body, pauses = run(4, [lost, response(503), response(503, retry_after="7"), response(500), response(200, b"yes")])
    assert body == b"yes"
    [asked_too_much] = run(1, [response(503, retry_after="86400"), response(200)])[1]
    assert asked_too_much <= 1.5 * LONGEST_ASKED_S
    for pause, least in zip(pauses, [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 7.0, 8 * FIRST_PAUSE_S], strict=True):
        assert least <= pause <= 1.5 * least


def test_a_fault_of_the_request_is_not_sent_again() -> None:
    problem = b'{"error": {"code": "missing leads", "field": "leads", "message": "wanted 12", "recording": 0}}'
    with pytest.raises(ServiceError, match="wanted 12") as caught:
        run(3, [response(422, problem)])
    assert (caught.value.status, caught.value.code, caught.value.field) == (422, "missing leads", "leads")


def test_in_the_end_the_last_outcome_counts() -> None:
    with pytest.raises(ServiceError, match="could not be reached"):
        run(1, [httpx.ConnectError("a"), httpx.ConnectError("b")])
    with pytest.raises(ServiceError, match="answered 503: busy"):
        run(1, [response(500), response(503, b"busy")])
    with pytest.raises(ServiceError):
        run(0, [response(503)])


def test_what_is_sent(tmp_path: Path) -> None:
    array = np.zeros((12, 10), np.float32)
    np.save(tmp_path / "ecg.npy", array)
    (tmp_path / "ecg.hea").write_text("ecg 1 500 10\necg.dat 16 200 16 0 0 0 0 I\n")
    (tmp_path / "ecg.dat").write_bytes(bytes(20))
    (tmp_path / "ecg.dcm").write_bytes(b"dicom")
    asked = {"sampling_rate_hz": 500, "measurements": True, "uncertainty": False, "model": None}
    call = upload("/v1/predict", array, asked)
    assert call.fields == {"sampling_rate_hz": "500", "measurements": "true"}
    assert call.content == upload("/v1/predict", tmp_path / "ecg.npy", asked).content
    assert upload("/v1/predict", tmp_path / "ecg.dcm", {}).files == (("ecg.dcm", b"dicom"),)
    names = [name for name, _ in upload("/v1/predict", tmp_path / "ecg.hea", {}).files]
    assert names == ["ecg.hea", "ecg.dat"]
    with pytest.raises(InputError, match="no such file"):
        upload("/v1/predict", tmp_path / "absent.dcm", {})


def test_recordings_are_sent_as_numbers_without_ids() -> None:
    samples = np.array([[0.1, np.nan, -1.23456789], [1, 2, 3]], np.float32)
    recording = Recording(
        samples=samples,
        sampling_rate_hz=500,
        lead_names=("I", "II"),
        record_id="Doe_Jane",
        patient_id="P-17",
        age_years=63,
        sex="female",
    )
    call = upload("/v1/predict", [recording], {"measurements": True, "uncertainty": False, "paced": True})
    assert call.content_type == "application/json"
    assert json.loads(call.content or b"") == {
        "measurements": True,
        "recordings": [
            {
                "samples": [[0.1, None, -1.234568], [1.0, 2.0, 3.0]],
                "sampling_rate_hz": 500.0,
                "leads": ["I", "II"],
                "units": "mV",
                "age_years": 63.0,
                "sex": "female",
                "paced": True,
            }
        ],
    }
    PredictRequest.model_validate_json(call.content or b"")
    with pytest.raises(ConfigError, match="sampling_rate_hz"):
        upload("/v1/predict", recording, {"sampling_rate_hz": 500})


def test_no_answer_in_time_is_not_the_same_as_nobody_there() -> None:
    for error, code in ((httpx.ReadTimeout("slow"), TIMED_OUT), (httpx.ConnectError("refused"), UNREACHABLE)):
        with pytest.raises(ServiceError) as caught:
            run(0, [error])
        assert (caught.value.code, caught.value.status) == (code, None)


def test_somebody_else_at_the_address_is_no_service() -> None:
    for outcome in (response(302, location="/login"), response(204)):
        with pytest.raises(ServiceError, match="check its address") as caught:
            run(3, [outcome])
        assert (caught.value.status, caught.value.code) == (None, UNREACHABLE)
    with pytest.raises(ServiceError, match="80x0"):
        Client("http://localhost:80x0")
    with Client() as client:
        client._client = httpx.Client(
            base_url="http://a", transport=httpx.MockTransport(lambda _: httpx.Response(200, html="<h1>Log in</h1>"))
        )
        with pytest.raises(ServiceError, match="no ModelsResponse; check its address"):
            client.models()
