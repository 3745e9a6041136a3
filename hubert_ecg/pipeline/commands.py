"""What all commands share: how they end, and what they say meanwhile."""

import logging
import sys
import warnings
from collections.abc import Callable

from hubert_ecg.errors import StoppedError
from hubert_ecg.pipeline.user_errors import told, user_error

EXIT_DONE, EXIT_BUG, EXIT_USER = 0, 1, 2
EXIT_STOPPED = 143
"""As shells say of a process that SIGTERM has ended."""


def guarded(work: Callable[[], None]) -> int:
    """Exit code of some work: 0, or after one line 2 for an error that the user can fix and 143 for a run that was
    asked to stop. Bugs keep their traceback."""
    try:
        work()
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        message = " ".join(str(told(cause)["message"]).split())
        if isinstance(cause, StoppedError):
            print(f"stopped: {message}", file=sys.stderr)
            return EXIT_STOPPED
        print(f"error: {message}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the finished shards or the last checkpoint", file=sys.stderr)
        return 130
    return EXIT_DONE


def set_up_logging() -> None:
    """Progress lines to stderr, without the noise of libraries."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in ("ray", "jax", "numba", "matplotlib", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ray Data's own settings object warns of its deprecated fields whenever it is made.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\..*")
