"""What every benchmark prints: the machine once, and one line per figure."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Processor, cores this process may use, and the versions that matter for speed."""
    import numpy
    import scipy

    rows = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((row.split(":", 1)[1].strip() for row in rows if "model name" in row), platform.processor())
    return f"# {cpu}, {len(os.sched_getaffinity(0))} cores; numpy {numpy.__version__}, scipy {scipy.__version__}"


def line(name: str, ratio: float, ours_s: float, theirs_s: float, against: str) -> str:
    """One figure: how many times faster, both sides in milliseconds per record and core."""
    return f"{name:<48} {ratio:7.2f} x   {ours_s * 1e3:9.3f} ms, beside {theirs_s * 1e3:9.3f} ms ({against})"


def peak_worker_mib() -> float:
    """Largest peak resident memory of the Ray worker processes that descend from this one, MiB."""
    peaks = [_peak_mib(pid) for pid in _descendants(os.getpid()) if _is_worker(pid)]
    return max(peaks, default=0.0)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:  # the process has ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _peak_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in status.splitlines() if row.startswith("VmHWM")), 0.0)
