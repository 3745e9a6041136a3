"""Errors that the user can fix, across processes: found behind what Ray raises, and left in a file by a worker."""

from typing import Any

from hubert_ecg import errors
from hubert_ecg.errors import HubertEcgError, RecordingError
from hubert_ecg.storage import files


def user_error(error: BaseException) -> HubertEcgError | None:
    """The error of this project in a chain of errors, if there is one; Ray wraps what was raised in a task."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if type(current).__module__ == HubertEcgError.__module__ and isinstance(current, HubertEcgError):
            return current
        seen.append(current)
        causes = [getattr(current, name, None) for name in ("cause", "controller_failure", "__cause__", "__context__")]
        causes += getattr(current, "worker_failures", {}).values()
        waiting += [cause for cause in causes if isinstance(cause, BaseException) and cause not in seen]
    return None


def told(error: HubertEcgError) -> dict[str, str | None]:
    """An error as JSON values, from which `made` makes it again."""
    reason = error.reason if isinstance(error, RecordingError) else None
    # Below the message of an error that passes through it, Ray Data puts what it would advise.
    message = str(error).split("\nFailed to apply")[0]
    return {"kind": type(error).__name__, "message": message, "reason": reason}


def made(content: dict[str, Any]) -> HubertEcgError:
    """The error that was told."""
    kind = getattr(errors, content["kind"])
    if kind is RecordingError:
        return RecordingError(content["reason"], content["message"])
    error: HubertEcgError = kind(content["message"])
    return error


def leave_error(path: str, error: HubertEcgError) -> None:
    """Write an error where another process looks for it."""
    files.write_json(path, told(error))


def left_error(path: str) -> HubertEcgError | None:
    """The error that was left there, if any."""
    return made(files.read_json(path)) if files.exists(path) else None
