"""What went wrong between here and the language model, in plain words and with what to do."""

import openai

from hubert_ecg.errors import HubertEcgError

_LONGEST = 200


class ReportError(HubertEcgError):
    """No report could be had of the language model; the message says why and what to do, and holds no key.

    `retry_after_s` is how long the server asks to wait, where it says so.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def advice(error: Exception, model: str, base_url: str, key: str, *, begun: bool) -> ReportError:
    """The error to raise for one of openai's. `begun`: whether a part of the report had arrived."""
    if isinstance(error, openai.APITimeoutError):
        what = "stopped in the middle of the report" if begun else "did not answer in time"
        return ReportError(f"The server at {base_url} {what}. Try again, or raise timeout_s for a slow one.")
    if isinstance(error, openai.APIConnectionError):
        if begun:
            return ReportError(
                "The connection broke in the middle of the report; what is there is not whole. Try again."
            )
        return ReportError(f"Nothing answers at {base_url}. Check the address, the network, and that the server runs.")
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, model, base_url, key)
    if isinstance(error, openai.APIError):
        return ReportError(f"The server broke off with an error{_said(error, key)}. Try again.")
    return ReportError(f"The server at {base_url} answers otherwise than OpenAI's interface does. Check the address.")


def _of_status(error: openai.APIStatusError, model: str, base_url: str, key: str) -> ReportError:
    status = error.status_code
    if status == 401:
        return ReportError("The server does not accept the key. Check that it is whole, valid and of this server.")
    if status == 403:
        return ReportError(f"The key may not use the model {model!r}, or not from here. Use another key or model.")
    if status == 404:
        return ReportError(f"The server at {base_url} knows no model {model!r}. Check both; some addresses end in /v1.")
    if status == 429:
        if error.code == "insufficient_quota":
            return ReportError("The account of this key has no credit left. Add some, or use another key.")
        wait_s = _retry_after_s(error)
        when = "later" if wait_s is None else f"in {wait_s:g} s"
        return ReportError(f"The server has too many requests at the moment. Try again {when}.", retry_after_s=wait_s)
    if status in (408, 504):
        return ReportError(f"The server at {base_url} took too long ({status}). Try again.")
    if status >= 500:
        return ReportError(f"The server at {base_url} is out of order ({status}). Try again later.")
    if status in (400, 413, 415, 422):
        return ReportError(
            f"The server does not accept the request ({status}){_said(error, key)}. "
            f"Does the model {model!r} understand pictures?"
        )
    return ReportError(f"The server at {base_url} answered {status}, which is no report. Check the address.")


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except ValueError:
        return None  # not given, or a date


def _said(error: openai.APIError, key: str) -> str:
    """The server's own words, in which it may have repeated the key."""
    words = str(error.message)
    words = (words.replace(key, "[key]") if key else words)[:_LONGEST].strip()
    return f': "{words}"' if words else ""
