"""Who may call, and how often."""

from pathlib import Path

import pytest

from hubert_ecg.errors import ConfigError
from serve.app import build_app
from serve.keys import ANYBODY, KeyRing, RateLimit, digest_of
from serve.settings import ServiceSettings
from tests.serve.service import save_classifier


def test_without_keys_anybody_may_call() -> None:
    assert KeyRing.of({}, {}).caller(None) == ANYBODY


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        ("Bearer first", "ward"),
        ("bearer second", "app"),
        ("Bearer third", None),
        ("Basic first", None),
        ("first", None),
        ("Bearer", None),
        (None, None),
    ],
)
def test_keys_of_settings_and_environment(header: str | None, caller: str | None) -> None:
    ring = KeyRing.of({"ward": digest_of("first")}, {"HUBERT_ECG_API_KEYS": " app:second\n"})
    assert ring.caller(header) == caller


def test_processes_elsewhere_are_given_the_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBERT_ECG_API_KEYS", "app:second")
    settings = ServiceSettings(checkpoints={"c": save_classifier(tmp_path / "c")}, key_hashes={"ward": "0" * 64})
    _, given = build_app(settings)._bound_deployment.init_args
    assert given.key_hashes == {"ward": "0" * 64, "app": digest_of("second")}


def test_the_hash_is_sha256() -> None:
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_malformed_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match="entry 1 is something else") as caught:
        KeyRing.of({}, {"HUBERT_ECG_API_KEYS": "app:good,secretwithoutname"})
    assert "secretwithoutname" not in str(caught.value)


def test_a_bucket_empties_and_fills() -> None:
    now = 100.0
    limit = RateLimit(per_minute=12, clock=lambda: now)
    # A burst of a sixth of the minute's requests, then one every five seconds.
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0.0, 0.0]
    assert limit.wait_s("a") == pytest.approx(5.0)
    assert limit.wait_s("b") == 0.0
    now += 4.0
    assert limit.wait_s("a") == pytest.approx(1.0)
    now += 1.0
    assert limit.wait_s("a") == 0.0
    assert RateLimit(per_minute=0).wait_s("a") == 0.0
