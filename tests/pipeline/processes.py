"""Finding the processes of a Ray cluster that a test is going to kill."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS = 300
"""Longest wait for anything."""


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """(pid, title) of all processes below one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            waiting.append(pid)
            try:
                yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue


def await_title(title: str, root: int, driver: subprocess.Popen) -> int:
    """A process below `root` that shows this title: Ray names a worker after what it runs."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert driver.poll() is None, f"the job ended before {title} could be killed"
        for pid, found in descendants(root):
            if found.startswith(title):
                return pid
        time.sleep(0.005)
    raise AssertionError(f"no {title} within {SECONDS} s")


def await_receipts(parts: Path, count: int, driver: subprocess.Popen) -> None:
    """Wait until so many shards are finished."""
    deadline = time.monotonic() + SECONDS
    while len(list(parts.glob("part-*.json"))) < count:
        assert driver.poll() is None, "the job ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill_node(raylet: int) -> None:
    """SIGKILL a raylet and all workers below it, as when a machine is lost."""
    for pid, title in [*descendants(raylet), (raylet, "raylet")]:
        if pid == raylet or title.startswith("ray::"):
            os.kill(pid, signal.SIGKILL)
