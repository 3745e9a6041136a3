"""How busy a GPU is while something else runs, as nvidia-smi says it: the share of the time in which it computes."""

import shutil
import statistics
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_S = 0.5


def names() -> list[str]:
    """Of this machine's NVIDIA GPUs; none where there is no driver."""
    return sorted(_asked("name"))


@contextmanager
def watched() -> Iterator[list[float]]:
    """Watch the first GPU while the block runs; what is yielded grows by a reading, in percent, every half second.

    It stays empty on a machine without one.
    """
    readings: list[float] = []
    if not names():
        yield readings
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_S):
            readings.extend(float(answer) for answer in _asked("utilization.gpu")[:1])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield readings
    finally:
        over.set()
        watcher.join()


def busy_percent(readings: list[float]) -> float | None:
    """The mean from the first sign of work to the last: what came before and after is processes that start and end.

    None where the GPU did nothing.
    """
    at_work = [place for place, value in enumerate(readings) if value > 0]
    return statistics.mean(readings[at_work[0] : at_work[-1] + 1]) if at_work else None


def _asked(what: str) -> list[str]:
    """nvidia-smi's answer, a line per GPU; none where it is missing or knows of none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode == 0 else []
