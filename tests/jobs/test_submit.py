"""jobs.submit: flags are checked before anything is sent, secrets stay here, and the job's exit code comes back."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from hubert_ecg.errors import ConfigError, InputError, ResourceError
from hubert_ecg.storage import files
from jobs.submit import check, exit_code, passed_on, submit


@dataclass
class Info:
    """As Ray's job server describes a job."""

    status: str
    driver_exit_code: int | None = None
    message: str = ""


def test_flags_are_judged_before_anything_is_sent() -> None:
    check("prepare", ["--source", "files", "--input", "s3://b/a", "--pattern", "*.hea", "--output", "s3://b/W"])
    check("recipe", ["jobs/configs/demo.yaml"])
    with pytest.raises(ConfigError, match="did you mean --waveforms"):
        check("dump", ["--wavforms", "W", "--output", "F"])
    for verb in ("prepaer", "cli", "submit", "../x"):
        with pytest.raises(ConfigError, match="wanted a job"):
            check(verb, [])


def test_a_secret_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    assert passed_on(["AWS_REGION"]) == {"AWS_REGION": "eu-west-1"}
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "db_password", "ID_SALT"):
        with pytest.raises(ConfigError, match="secret") as caught:
            passed_on([name])
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="NOT_SET_HERE"):
        passed_on(["NOT_SET_HERE"])


def test_the_jobs_exit_code_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(Info("SUCCEEDED", 0)) == 0
    assert exit_code(Info("FAILED", 2)) == 2
    assert exit_code(Info("FAILED", -9)) == 247
    assert exit_code(Info("STOPPED")) == 143
    assert exit_code(Info("FAILED", None, "the node of the driver has died")) == 1
    assert "the node of the driver has died" in capsys.readouterr().err


def test_no_cluster_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="--address: wanted the job server"):
        submit(["sample", "--output", "S"])
    with pytest.raises(ResourceError, match="wanted a job server that lets us in"):
        submit(["--address", "http://127.0.0.1:9", "sample", "--output", "S"])


def test_a_relative_output_would_be_lost_and_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(InputError, match="runs/W: wanted an absolute path or s3://"):
        files.absolute("runs/W")
    assert files.absolute("/data/W") == "/data/W"
    assert files.absolute("s3://b/W") == "s3://b/W"
    assert files.absolute("~/W") == os.path.expanduser("~/W")
