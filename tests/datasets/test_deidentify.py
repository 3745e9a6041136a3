"""Hashed ids: keyed, stable, apart for all; the salt is never repeated in a message."""

import hashlib
import hmac
from pathlib import Path

import pytest

from hubert_ecg.datasets.deidentify import hash_id, hash_ids, load_salt
from hubert_ecg.datasets.source import build_listing
from hubert_ecg.errors import ConfigError, InputError

SALT = b"a long secret"


def test_the_hash_is_hmac_sha256() -> None:
    """The first digits of RFC 4231, test case 2."""
    assert hash_id("what do ya want for nothing?", b"Jefe") == "5bdcc146bf60754e6a042426089575c7"
    assert hash_id("Grünwald", SALT) == hmac.new(SALT, "Grünwald".encode(), hashlib.sha256).hexdigest()[:32]
    assert hash_id("p", SALT) != hash_id("p", b"another secret")


def test_a_listing_keeps_who_belongs_together_and_no_id(tmp_path: Path) -> None:
    listing = build_listing(
        source="toy",
        record_ids=["meier-1", "meier-2", "x"],
        paths=["a", "b", "c"],
        splits=["train", "train", "test"],
        patient_ids=["meier", "meier", None],
        dropped=[("schmidt", "schmidt has no file")],
    )
    hashed = hash_ids(listing, SALT)
    patients = hashed.table["patient_id"].to_pylist()
    assert patients == [hash_id("meier", SALT), hash_id("meier", SALT), None]
    assert len(set(hashed.table["record_id"].to_pylist())) == 3
    assert hashed.table["path"].to_pylist() == ["a", "b", "c"]
    shown = str(hashed.table.drop_columns(["path"]).to_pylist()) + str(hashed.dropped)
    assert "meier" not in shown
    assert "schmidt" not in shown


def test_a_salt_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "salt").write_bytes(SALT + b"\r\n")
    assert load_salt(str(tmp_path / "salt")) == SALT
    monkeypatch.setenv("ECG_SALT", SALT.decode())
    assert load_salt("env:ECG_SALT") == SALT


def test_a_salt_that_is_absent_or_short_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECG_SALT", raising=False)
    with pytest.raises(ConfigError, match="ECG_SALT"):
        load_salt("env:ECG_SALT")
    with pytest.raises(InputError) as caught:
        load_salt("my actual secret")
    assert "actual" not in str(caught.value)
    (tmp_path / "salt").write_bytes(b"short\n")
    with pytest.raises(ConfigError, match="at least 8 bytes, got 5") as short:
        load_salt(str(tmp_path / "salt"))
    assert "short\n" not in str(short.value)
