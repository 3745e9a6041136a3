"""A service whose processes find no room: refused at once, ended by a signal while it waits, or left as it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hubert_ecg.pipeline.ray_cluster import LIMITS
from tests.serve.service import ROOT, ecg, free_port, npy, running, save_classifier

pytestmark = pytest.mark.slow
CPUS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_classifier(tmp_path_factory.mktemp("checkpoint"))


def start(checkpoint: str, *settings: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "serve", "--checkpoint", checkpoint, "--port", str(free_port())]
    for setting in settings:
        command += ["--set", setting]
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_what_does_not_fit_is_refused_at_once(checkpoint: str) -> None:
    process = start(checkpoint, "gpus_per_replica=64")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "error: replicas: wanted 1 of 1 CPU and 64 GPUs each, got 1 machine with" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_machines_that_do_not_come(
    checkpoint: str, number: signal.Signals, tmp_path: Path
) -> None:
    """Where a cluster may grow it is waited for; Serve's own wait heeds no signal."""
    process = start(checkpoint, f"cpus_per_replica={CPUS + 1}", **{LIMITS: f"CPU={2 * CPUS + 2}"})
    assert process.stdout is not None
    heard = []
    for line in process.stdout:  # Serve says of itself, after half a minute, what it waits for.
        heard.append(line)
        if "still waiting for the model's processes" in line:
            break
    assert heard, "it has ended"
    assert process.poll() is None, "".join(heard)
    process.send_signal(number)
    began = time.monotonic()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "ending before the service was up" in rest
    assert time.monotonic() - began < 45


def test_a_roll_over_without_room_leaves_the_service_as_it_was(checkpoint: str) -> None:
    with running({"c": checkpoint}, key=None, cpus_per_replica=0.75 * CPUS) as service:
        service.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while not any("settings not taken over" in line for line in service.said()):
            assert time.monotonic() < deadline, service.said()
            time.sleep(0.1)
        assert any("which start before the old ones go" in line for line in service.said())
        with service.http() as http:
            answer = http.post(
                "/v1/predict",
                content=npy(ecg()),
                params={"sampling_rate_hz": 500},
                headers={"content-type": "application/octet-stream"},
            )
            assert answer.status_code == 200
        assert service.end() == 0
