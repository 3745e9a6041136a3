"""Seconds of each run of a piece of work, after one that warms up."""

import time
from collections.abc import Callable, Mapping

ROWS_TO_WARM_UP = 3
"""Rows of a training's table that are left out of its speed: threads, allocators and readers are starting."""


def in_turn(
    works: Mapping[str, Callable[[], object]],
    runs: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Of each, one after the other in every round, so that a busy machine is busy for all of them.

    `settle` waits before both looks at the clock for what was only queued, on a GPU say.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name, work in works.items():
            settle()
            began = clock()
            work()
            settle()
            if run:
                taken[name].append(clock() - began)
    return taken


def seconds_of(work: Callable[[], object], runs: int) -> list[float]:
    return in_turn({"": work}, runs)[""]


def ms_each(seconds: list[float], records: int) -> tuple[float, ...]:
    """Milliseconds per record of each run."""
    return tuple(1e3 * each / records for each in seconds)
