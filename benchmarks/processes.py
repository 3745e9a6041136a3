"""Memory of the Ray worker processes that descend from this one."""

import os
from collections.abc import Iterator
from pathlib import Path


def peak_worker_mib() -> float:
    """Largest peak of resident memory that any of them has had, MiB."""
    return max((status_mib(pid, "VmHWM") for pid in workers()), default=0.0)


def own_mib(pid: int) -> float:
    """Memory of a process that is its own, without what it shares with others, MiB."""
    return status_mib(pid, "RssAnon")


def workers() -> Iterator[int]:
    return (pid for pid in _descendants(os.getpid()) if _is_worker(pid))


def status_mib(pid: int, field: str) -> float:
    """A field of the kernel's status of a process; 0 when it has ended."""
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith(f"{field}:")), 0.0)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # the process has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
