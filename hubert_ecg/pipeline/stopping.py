"""SIGTERM to a training: whoever receives it, a checkpoint of the current step is made before anything ends.

To the driver: it asks the workers to save and end, and then ends itself; the same command goes on from there. To a
worker (whose machine is being taken away, say): all ranks save, that worker ends, and Ray Train starts the ranks anew
from the checkpoint, as often as `workers.max_failures` allows.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

UNREACHABLE_S = 60.0
"""Longest wait for an answer of Ray before it counts as ended."""


class StopSign:
    """A Ray actor: the driver puts it up, the ranks wait for it."""

    def __init__(self) -> None:
        self.up = asyncio.Event()

    async def put_up(self) -> None:
        self.up.set()

    async def wait(self) -> None:
        await self.up.wait()


@contextmanager
def sigterm_puts_up(sign: Any) -> Iterator[threading.Event]:
    """While the block runs, the first SIGTERM to this process puts the sign up; a second one ends it as ever.

    Gives an event that says whether there was one. Only a main thread can listen for signals; in others (trials of a
    search) nothing changes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGTERM)

    def put_up(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        asked.set()
        log.info("asked to stop: saving a checkpoint of the current step")
        # Not here, where whatever the main thread is doing with Ray has been interrupted.
        threading.Thread(target=_put_up_or_end, args=(sign,), daemon=True).start()

    signal.signal(signal.SIGTERM, put_up)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _put_up_or_end(sign: Any) -> None:
    """Put the sign up. Where all processes of a machine were asked to end, Ray may have done so already and the main
    thread would wait for it in vain: then this process ends, without a checkpoint of the current step."""
    import ray

    try:
        ray.get(sign.put_up.remote(), timeout=UNREACHABLE_S)
    except ray.exceptions.RayError as error:
        log.error("stopped: Ray has ended too (%s); the same command goes on from the last checkpoint", error)
        logging.shutdown()
        os._exit(128 + signal.SIGTERM)


class StopRequest:
    """On a worker: whether the driver's sign is up, or this process itself has been asked to end."""

    def __init__(self, sign: Any | None) -> None:
        self._seen = threading.Event()
        if sign is not None:
            threading.Thread(target=self._await, args=(sign,), daemon=True).start()

    def _await(self, sign: Any) -> None:
        import ray

        try:
            ray.get(sign.wait.remote())
        except ray.exceptions.RayActorError:
            return  # The driver has ended, and with it soon this worker.
        self._seen.set()

    @property
    def made(self) -> bool:
        return self._seen.is_set() or worker_asked.is_set()


worker_asked = threading.Event()
"""In a worker process: it has received SIGTERM."""


def take_sigterm_as_a_request() -> None:
    """Runs in a worker's main thread, where alone signals can be caught; training is in another one.

    Ray's own handler would end the process at once. Signals are noticed when Ray Train asks for the worker's health.
    """
    worker_asked.clear()

    def note(number: int, frame: FrameType | None) -> None:
        worker_asked.set()

    signal.signal(signal.SIGTERM, note)
