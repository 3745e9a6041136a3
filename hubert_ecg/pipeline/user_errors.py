"""Errors that the user can fix, across processes: found behind what Ray raises, and left in a file by a worker."""

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


def leave_error(path: str, error: HubertEcgError) -> None:
    """Write an error where another process looks for it."""
    reason = error.reason if isinstance(error, RecordingError) else None
    files.write_json(path, {"kind": type(error).__name__, "message": str(error), "reason": reason})


def left_error(path: str) -> HubertEcgError | None:
    """The error that was left there, if any."""
    if not files.exists(path):
        return None
    content = files.read_json(path)
    kind = getattr(errors, content["kind"])
    made: HubertEcgError = (
        RecordingError(content["reason"], content["message"]) if kind is RecordingError else kind(content["message"])
    )
    return made
