"""The real app in a process of its own, and the real browser before it."""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.serve.service import ROOT, free_port

START_S = 300
WATCH = Path(__file__).with_name("watch")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(kw_only=True)
class RunningApp:
    """An app that runs."""

    url: str
    process: subprocess.Popen[str]
    lines: "queue.Queue[str]" = field(default_factory=queue.Queue)

    def written(self) -> list[str]:
        """Files outside of memory that its server has opened for writing."""
        found = [line.split(" ", 1)[1].strip() for line in list(self.lines.queue) if line.startswith("WRITES ")]
        return [path for path in found if not re.match(r"(/dev/(shm|null|tty)\b|\d+$)", path)]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """A signal to all of it, as Ctrl-C sends, and the exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        try:
            return self.process.wait(150)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def running_app(
    *flags: str, environment: Mapping[str, str] | None = None, through_make: bool = False
) -> Iterator[RunningApp]:
    """Start `python -m serve.diagnosis`, or `make app`, and wait until its page is there."""
    port = free_port()
    command = [sys.executable, "-m", "serve.diagnosis", "--port", str(port), *flags]
    if through_make:
        command = ["make", "app", f"APP_PORT={port}", *flags]
    unset = {"RAY_ADDRESS", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HUBERT_ECG_API_KEY", "PYTHONPATH"}
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    clean |= {"PYTHONPATH": f"{WATCH}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    app = RunningApp(url=f"http://127.0.0.1:{port}", process=process)
    threading.Thread(target=_listen, args=(app,), daemon=True).start()
    try:
        wait_for(f"{app.url}/_stcore/health", app)
        yield app
    finally:
        app.end()


def wait_for(url: str, app: RunningApp) -> None:
    """Until this address answers well."""
    deadline = time.monotonic() + START_S
    while True:
        said = "".join(list(app.lines.queue)[-30:])
        assert app.process.poll() is None, said
        assert time.monotonic() < deadline, said
        try:
            if httpx.get(url, trust_env=False, timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)


def _listen(app: RunningApp) -> None:
    assert app.process.stdout is not None
    for line in app.process.stdout:
        app.lines.put(line)


def browser_path() -> str:
    """Of a Chromium on this machine; the test is skipped where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium here; Debian has it as `apt-get install chromium`")
    return found
