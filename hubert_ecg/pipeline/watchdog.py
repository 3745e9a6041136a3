"""A rank whose training hangs (a read that never returns, a deadlock) ends itself, so that Ray Train replaces it.

Ray Train notices processes that have died or stopped altogether, and torch notices ranks that do not come to a common
sum. A lone rank whose training thread hangs while its process lives is noticed by nobody else.
"""

import logging
import os
import threading
import time

log = logging.getLogger(__name__)

EXIT_HUNG = 70


class Watchdog:
    """Ends this process when `beat` has not been called for so many seconds."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._last = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def beat(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.timeout_s / 4)):
            silent_s = time.monotonic() - self._last
            if silent_s > self.timeout_s:
                log.error("no step for %.0f s: this worker hangs and ends itself", silent_s)
                logging.shutdown()
                os._exit(EXIT_HUNG)
