"""Errors as HTTP answers: which status they have, and the part of the request that they are about."""

from collections.abc import Mapping

from pydantic import ValidationError

from hubert_ecg.errors import HubertEcgError, RecordingError
from serve.schemas import ErrorResponse, Problem


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that is answered with a status from 400 on."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        recording: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code=code, field=field, message=message, recording=recording)
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        return ErrorResponse(error=self.problem).model_dump_json().encode()


_FIELD_OF_REASON = {
    "bad sampling rate": "sampling_rate_hz",
    "sampling rate too low": "sampling_rate_hz",
    "missing leads": "leads",
    "duplicate lead": "leads",
}
"""Reason of a RecordingError -> the field that is to be corrected; `samples` for all others."""


def of_recording(error: HubertEcgError, *, place: str, is_file: bool = False, index: int | None = None) -> Refusal:
    """A recording that cannot be used. `place`: where in the request it stands, `recording` or `files.0` say.

    What a file does not say of itself stands beside it in the request; numbers hold it.
    """
    reason = error.reason if isinstance(error, RecordingError) else "unusable"
    wrong = _FIELD_OF_REASON.get(reason)
    field = (wrong or place) if is_file else f"{place}.{wrong or 'samples'}"
    status = 413 if reason == "too large" else 422
    return Refusal(status, reason, str(error), field=field, recording=index)


def of_validation(error: ValidationError) -> Refusal:
    """The first fault of a body or of query parameters."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    # A body that is no JSON has no field; its message says where parsing ended.
    code = "invalid JSON" if first["type"] == "json_invalid" else "invalid field"
    return Refusal(422, code, f"{field or 'body'}: {first['msg']}{others}", field=field or "body")
