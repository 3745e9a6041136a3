"""What listens for others says so where anybody may use it: the service without keys, the app that holds some."""

import logging

import pytest

from serve.__main__ import warn_if_exposed as warn_of_service
from serve.diagnosis.__main__ import warn_if_exposed as warn_of_app
from serve.diagnosis.settings import AppSettings
from serve.exposure import is_loopback
from serve.settings import ServiceSettings


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.1", False), ("ward", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_service_without_keys_says_that_anybody_may_call(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HUBERT_ECG_API_KEYS", raising=False)
    with caplog.at_level(logging.WARNING):
        warn_of_service("127.0.0.1", ServiceSettings(checkpoints={"c": "/c"}))
        warn_of_service("0.0.0.0", ServiceSettings(checkpoints={"c": "/c"}, key_hashes={"ward": "0" * 64}))
        assert not caplog.messages
        warn_of_service("0.0.0.0", ServiceSettings(checkpoints={"c": "/c"}))
    assert "whoever reaches it can use it" in caplog.text


def test_an_app_that_holds_keys_says_that_others_use_them(capsys: pytest.CaptureFixture[str]) -> None:
    paid = AppSettings.of_environment({"OPENAI_API_KEY": "sk-of-the-hospital"})
    warn_of_app("127.0.0.1", paid)
    warn_of_app("0.0.0.0", AppSettings.of_environment({}))
    assert capsys.readouterr().err == ""
    warn_of_app("0.0.0.0", paid)
    said = capsys.readouterr().err
    assert "WARNING: the app listens on 0.0.0.0 and holds OPENAI_API_KEY: whoever reaches it uses" in said
    assert "sk-of-the-hospital" not in said
    both = AppSettings.of_environment({"OPENAI_API_KEY": "sk-of-the-hospital", "HUBERT_ECG_API_KEY": "of-the-ward"})
    warn_of_app("10.0.0.1", both)
    assert "OPENAI_API_KEY and HUBERT_ECG_API_KEY" in capsys.readouterr().err
