"""A real service for tests (benchmarks/service.py), and what only tests want of it."""

import subprocess
import time
from collections.abc import Sequence
from typing import Any

import httpx

from benchmarks.service import KEY, ROOT, START_S, Service, ecg, free_port, npy, running, save_classifier
from tests.pipeline.processes import descendants as below

__all__ = ["KEY", "ROOT", "Service", "descendants", "ecg", "free_port", "npy", "running", "save_classifier"]


def descendants(service: Service, title: str) -> Sequence[int]:
    """Processes of the service that show this title."""
    return [pid for pid, found in below(service.process.pid) if title in found]


def wait_until_ready(url: str, process: subprocess.Popen[Any]) -> None:
    """Until the model behind this address answers; the process is the one that is to bring it up."""
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, "not ready"
        try:
            if httpx.get(f"{url}/ready", trust_env=False, timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
