"""What the app says of a service that is down, slow, busy, locked or broken, over real sockets."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError
from serve.diagnosis.service import explain, models, predict, predict_all
from serve.diagnosis.settings import AppSettings
from serve.diagnosis.trouble import Trouble
from tests.serve.diagnosis.ecg_files import samples_mv
from tests.serve.service import free_port

RECORDING = Recording(samples=samples_mv(), sampling_rate_hz=500)
ONE_LEAD = Recording(samples=samples_mv()[1:2], sampling_rate_hz=500, lead_names=("II",))


@contextmanager
def answering(status: int | None, code: str = "some code") -> Iterator[AppSettings]:
    """A service that gives every request this answer; None: it takes them and is silent."""
    end = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with suppress(ConnectionError):  # who starts over does not listen
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

        def do_GET(self) -> None:
            if status is None:
                end.wait(30)
                return
            body = json.dumps({"error": {"code": code, "field": "leads", "message": "wanted this, got that"}}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield AppSettings(service_url=f"http://127.0.0.1:{server.server_port}", timeout_s=0.3)
    finally:
        end.set()
        server.shutdown()
        server.server_close()
        thread.join()


CASES: list[tuple[int | None, str, str]] = [
    (401, "key", "HUBERT_ECG_API_KEY"),
    (403, "key", "HUBERT_ECG_API_KEY"),
    (422, "refused", "Check the file"),
    (413, "refused", "Check the file"),
    (429, "busy", "try again"),
    (503, "busy", "try again"),
    (500, "broken", "Try again"),
    (None, "slow", "HUBERT_ECG_APP_TIMEOUT_S"),
]


@pytest.mark.parametrize(("status", "kind", "advice"), CASES)
def test_each_state_is_told_apart_and_says_what_to_do(status: int | None, kind: str, advice: str) -> None:
    with answering(status) as settings:
        outcomes = [predict(settings, RECORDING, model=None), models(settings)]
        if kind != "slow":
            outcomes.append(explain(settings, RECORDING, "AFIB", model=None))
    for outcome in outcomes:
        assert isinstance(outcome, Trouble)
        assert outcome.kind == kind
        assert advice in outcome.advice
        if status is not None:
            assert "wanted this, got that" in outcome.detail
        assert outcome.worth_retrying == (kind != "refused")


def test_nobody_there() -> None:
    settings = AppSettings(service_url=f"http://127.0.0.1:{free_port()}")
    outcome = models(settings)
    assert isinstance(outcome, Trouble)
    assert outcome.kind == "down"
    assert settings.service_url in outcome.detail


def test_an_address_with_a_bad_port_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="service_url: wanted an address, got 'http://127.0.0.1:80o0'"):
        AppSettings(service_url="http://127.0.0.1:80o0")


def test_known_refusals_have_advice_of_their_own() -> None:
    with answering(422, "missing leads") as settings:
        outcome = predict(settings, RECORDING, model=None)
    assert isinstance(outcome, Trouble)
    assert "all twelve leads" in outcome.advice


def test_one_lead_is_refused_before_anything_is_sent() -> None:
    outcome = predict(AppSettings(service_url=f"http://127.0.0.1:{free_port()}"), ONE_LEAD, model=None)
    assert isinstance(outcome, Trouble)
    assert outcome.kind == "refused"
    assert "(II)" in outcome.detail


class Noting(dict[int, Recording]):
    """Recordings that are counted as they are taken out."""

    taken = 0

    def __getitem__(self, number: int) -> Recording:
        self.taken += 1
        return super().__getitem__(number)


def test_who_starts_over_does_not_wait_for_the_rest_of_a_batch() -> None:
    recordings = Noting(dict.fromkeys(range(60), RECORDING))
    with answering(422) as settings:
        outcomes = predict_all(settings, recordings, model=None)
        next(outcomes)
        outcomes.close()
    assert 1 <= recordings.taken < 60


def test_a_batch_goes_on_past_a_bad_recording_and_ends_with_the_service() -> None:
    recordings = {number: RECORDING for number in range(9)} | {9: ONE_LEAD}
    with answering(422) as settings:
        assert {number for number, _ in predict_all(settings, recordings, model=None)} == set(range(10))
    settings = AppSettings(service_url=f"http://127.0.0.1:{free_port()}")
    outcomes = dict(predict_all(settings, recordings, model=None))
    kinds = [outcome.kind for outcome in outcomes.values() if isinstance(outcome, Trouble)]
    assert set(kinds) <= {"down", "refused"}
    assert len(outcomes) == 10
