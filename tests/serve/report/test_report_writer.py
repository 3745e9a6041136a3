"""The language model's report against a real server on loopback: what is sent, how it arrives, and what goes wrong."""

import base64
import io
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hubert_ecg.errors import ConfigError, InputError
from serve.report.check import contradictions
from serve.report.facts import Facts
from serve.report.message import SYSTEM, message, shown
from serve.report.text import CLOSING
from serve.report.writer import ReportError, WriterSettings, write_report
from tests.serve.openai_server import KEY, OpenAIServer, openai_server
from tests.serve.report.cases import CASES

FACTS = CASES["fibrillation"]


def png(**words: str) -> bytes:
    """A picture of one pixel, with words beside it."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    parts += [(b"tEXt", f"{name}\0{text}".encode()) for name, text in words.items()]
    parts += [(b"IDAT", zlib.compress(b"\0\x80")), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(server: OpenAIServer) -> None:
    server.requests.clear()
    server.go_on.clear()


def asked(server: OpenAIServer, model: str, **settings: float) -> WriterSettings:
    return WriterSettings(model=model, base_url=server.base_url, **settings)  # type: ignore[arg-type]


def written(settings: WriterSettings, facts: Facts = FACTS, key: str | None = KEY) -> str:
    return "".join(write_report(settings, key, facts, png()))


def refused(settings: WriterSettings, key: str | None = KEY) -> ReportError:
    with pytest.raises(ReportError) as caught:
        written(settings, key=key)
    assert KEY not in str(caught.value)
    return caught.value


def test_what_is_sent_is_the_message_that_was_shown(server: OpenAIServer) -> None:
    picture = png()
    "".join(write_report(asked(server, "true"), KEY, FACTS, picture))
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["body"] == {"model": "true", "stream": True, "messages": message(FACTS, picture)}
    told = shown(message(FACTS, picture))
    assert SYSTEM in told
    assert '"label": "atrial fibrillation"' in told
    assert "data:image" not in told


def test_nothing_that_tells_whose_it_is_is_sent(server: OpenAIServer) -> None:
    facts = replace(FACTS, model="st-marys-2024", fingerprint="deadbeef", age_years=97.3)
    picture = png(Title="Doe^Jane 1931-02-03", Source="/home/doe/jane.dcm")
    "".join(write_report(asked(server, "true"), KEY, facts, picture))
    body = server.requests[0]["body"]
    url = body["messages"][1]["content"][1]["image_url"]["url"]
    sent = base64.b64decode(url.partition(",")[2])
    headers = {name: value for name, value in server.requests[0]["headers"].items() if name != "host"}  # any port
    everything = json.dumps(body).encode().replace(url.encode(), b"") + sent + json.dumps(headers).encode()
    for telling in (b"Doe", b"1931", b"jane", b"st-marys", b"deadbeef", b"97.3"):
        assert telling not in everything
    assert json.loads(body["messages"][1]["content"][0]["text"])["patient"] == {
        "age_years": "90 or over",
        "sex": "male",
    }
    assert sent == png()  # the picture itself is whole


def test_a_picture_that_matplotlib_drew_stays_readable() -> None:
    from matplotlib.figure import Figure

    from serve.report.picture import only_picture

    drawn, kept = io.BytesIO(), io.BytesIO()
    figure = Figure(figsize=(2, 1))
    figure.savefig(drawn, format="png", metadata={"Author": "Jane Doe"})
    clean = only_picture(drawn.getvalue())
    assert b"Jane" in drawn.getvalue()
    assert b"Jane" not in clean
    assert b"tEXt" not in clean
    import matplotlib.image

    kept.write(clean)
    kept.seek(0)
    assert matplotlib.image.imread(kept, format="png").shape == (100, 200, 4)


@pytest.mark.parametrize("bad", [b"", b"GIF89a", png()[:-20]])
def test_a_picture_that_is_no_png_is_not_sent(bad: bytes, server: OpenAIServer) -> None:
    with pytest.raises(InputError, match="draw it again"):
        list(write_report(asked(server, "true"), KEY, FACTS, bad))
    assert not server.requests


def test_pieces_arrive_as_they_are_written(server: OpenAIServer) -> None:
    pieces = write_report(asked(server, "stepwise"), KEY, FACTS, None)
    assert next(pieces) == "First piece. "
    assert not server.go_on.is_set()  # the server has not gone on to the second
    server.go_on.set()
    assert list(pieces) == ["Second piece. This is not a diagnosis."]


def test_what_is_missing_at_the_end_is_added(server: OpenAIServer) -> None:
    assert written(asked(server, "no-closing")).endswith(f"\n\n{CLOSING}")
    assert CLOSING not in written(asked(server, "true"))


@pytest.mark.parametrize("about", CASES)
def test_a_report_is_checked_against_the_facts(about: str, server: OpenAIServer) -> None:
    facts = CASES[about]
    assert contradictions(written(asked(server, "true"), facts), facts) == []
    flagged = contradictions(written(asked(server, "false"), facts), facts)
    assert len(flagged) == 1
    assert flagged[0].sentence.startswith(("There is no evidence of", "The model sees"))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("key-unknown", "does not accept the key"),
        ("forbidden", "may not use the model 'forbidden'"),
        ("no-such-model", "knows no model 'no-such-model'"),
        ("rate-limited", "too many requests at the moment. Try again in 7 s"),
        ("bad-request", "Does the model 'bad-request' understand pictures"),
        ("broken", "out of order (500)"),
        ("overloaded", "out of order (503)"),
        ("moved", "answered 307, which is no report"),
        ("refuses", 'refused to write this report ("I can\'t help with medical images.")'),
        ("refuses-in-words", "refused to write"),
        ("filters", "refused to write"),
        ("too-short", "ran out of tokens"),
        ("empty", "without any text"),
        ("endless", "more than 20000 characters"),
        ("cuts", "broke in the middle"),
        ("ends-early", "ended before the report did"),
        ("fails-within", 'broke off with an error: "CUDA out of memory"'),
        ("speaks-otherwise", "answers otherwise than OpenAI's interface"),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(
    model: str, words: str, server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert words in str(refused(asked(server, model)))
    assert len(server.requests) == 1  # nothing is sent twice
    assert caplog.text
    assert KEY not in caplog.text


def test_the_pause_that_a_server_asks_for_is_known(server: OpenAIServer) -> None:
    assert refused(asked(server, "rate-limited")).retry_after_s == 7.0


def test_a_server_that_says_nothing_is_given_up(server: OpenAIServer) -> None:
    assert "did not answer in time" in str(refused(asked(server, "silent", timeout_s=0.3)))
    assert "stopped in the middle" in str(refused(asked(server, "stalls", timeout_s=0.3)))


def test_a_text_that_takes_too_long_is_given_up(server: OpenAIServer) -> None:
    assert "not finished after 0.05 s" in str(refused(asked(server, "slow-true", total_s=0.05)))


def test_where_nothing_listens_the_address_is_named() -> None:
    assert "Nothing answers at http://127.0.0.1:9/v1" in str(refused(WriterSettings(base_url="http://127.0.0.1:9/v1")))


@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY} ", f"{KEY}é", f"{KEY} {KEY}"])
def test_a_key_that_was_copied_badly_is_never_repeated(key: str, server: OpenAIServer) -> None:
    if key.strip() == KEY:
        assert written(asked(server, "true"), key=key)
    else:
        assert "copy it again" in str(refused(asked(server, "true"), key=key))
        assert not server.requests


def test_the_key_is_in_no_traceback(server: OpenAIServer) -> None:
    import traceback

    for model in ("key-unknown", "bad-request", "broken"):
        error = refused(asked(server, model))
        assert KEY not in "".join(traceback.format_exception(error))


def test_a_local_server_needs_no_key(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    assert written(asked(server, "true"), key=None)
    assert "sk-of-the-environment" not in json.dumps(server.requests)


@pytest.mark.parametrize(
    "settings",
    [{"base_url": "api.openai.com"}, {"base_url": "https://me:secret@host/v1"}, {"model": " "}, {"timeout_s": 0.0}],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        WriterSettings(**settings)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
