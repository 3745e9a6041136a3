"""What schemathesis makes up from the service's own OpenAPI document never breaks it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.service import running, save_classifier

pytestmark = pytest.mark.slow


def test_no_made_up_request_is_answered_with_5xx(tmp_path: Path) -> None:
    checkpoint = save_classifier(tmp_path / "c")
    with running({"c": checkpoint}, cpus_per_replica=0.5, max_recordings=4, max_body_mib=4) as service:
        # One worker: Hypothesis sets the recursion limit, which breaks other threads' parsing on Python 3.11.
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{service.url}/openapi.json",
            "--checks", "not_a_server_error", "--header", f"Authorization: Bearer {service.key}",
            "--max-examples", "100", "--seed", "1", "--workers", "1", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        print(done.stdout[-2500:])
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Tested: 8" in done.stdout
        with service.http() as client:
            assert client.get("/ready").status_code == 200
            metrics = client.get("/metrics").text
    assert 'status="422"' in metrics
    assert 'status="5' not in metrics
