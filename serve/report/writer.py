"""A report written by a language model with vision, over any server that speaks OpenAI's chat completions.

Piece by piece as it is written. Nothing is sent but `message`; the key goes into the request's header and nowhere
else: no log line and no error holds it. What comes back is to be checked (`check.contradictions`).
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletionChunk

from hubert_ecg.errors import ConfigError
from serve.report.facts import Facts
from serve.report.message import message
from serve.report.text import CLOSING
from serve.report.writer_errors import ReportError, advice

__all__ = ["ReportError", "WriterSettings", "message", "write_report"]

_NOT_A_DIAGNOSIS = re.compile(r"\b(?:not|no) (?:a )?(?:medical )?diagnosis", re.IGNORECASE)
_DECLINES = re.compile(
    r"^\W*(?:I(?:'|’)?m (?:sorry|unable)|I am (?:sorry|unable)|Sorry|I (?:can(?:'|’)t|cannot|won(?:'|’)t)"
    r"|As an AI|Unfortunately, I)",
    re.IGNORECASE,
)
_SHORT = 400
"""A refusal in words is no longer than this many characters."""


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """Which language model writes, and how long one waits for it."""

    model: str = "gpt-4o"
    """Its name on the server; it has to understand pictures where one is sent."""
    base_url: str = "https://api.openai.com/v1"
    """Of a server that speaks OpenAI's chat completions, a local one say; without user name or password."""
    timeout_s: float = 30.0
    """Of connecting, and from one piece of the text to the next."""
    total_s: float = 180.0
    """Of the whole text."""
    most_characters: int = 20_000
    """A longer text is not a report, and is cut off."""

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname or address.username:
            place = f"{address.scheme}://{address.hostname}" if address.username else self.base_url
            raise ConfigError(f"base_url: wanted an address such as https://api.openai.com/v1, got {place!r}")
        if not self.model.strip():
            raise ConfigError("model: wanted the name of a model on the server, got nothing")
        if not (self.timeout_s > 0 and self.total_s > 0 and self.most_characters > 0):
            raise ConfigError("timeout_s, total_s and most_characters: wanted numbers above 0; raise them")


def write_report(settings: WriterSettings, key: str | None, facts: Facts, png: bytes | None) -> Iterator[str]:
    """The pieces of a report as they arrive; the last says that it is no diagnosis, if the model did not.

    Local servers may need no key. Nothing is sent before the first piece is asked for. Raises ReportError, with what
    to do, at any point; what was written until then is not a whole report. Raises InputError for a bad picture.
    """
    secret = (key or "").strip()
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise ReportError("The key holds spaces or characters that no key has; copy it again.")
    messages = message(facts, png)
    written: list[str] = []
    ended = _End()
    try:
        with (
            # A redirect would send facts and picture to a place that nobody agreed to.
            openai.DefaultHttpxClient(follow_redirects=False) as http,
            openai.OpenAI(
                api_key=secret or "none",
                base_url=settings.base_url,
                timeout=settings.timeout_s,
                max_retries=0,
                http_client=http,
            ) as client,
            client.chat.completions.create(model=settings.model, messages=messages, stream=True) as stream,
        ):
            for piece in _pieces(stream, settings, ended):
                written.append(piece)
                yield piece
    except (openai.OpenAIError, ValueError) as error:
        # Not chained: a server may repeat the key in its answer, which a traceback would show.
        raise advice(error, settings.model, settings.base_url, secret, begun=bool(written)) from None
    _whole("".join(written), ended)
    if not _NOT_A_DIAGNOSIS.search("".join(written)):
        yield f"\n\n{CLOSING}"


@dataclass(kw_only=True)
class _End:
    """How a stream ended."""

    reason: str | None = None
    refusal: str = ""


def _pieces(stream: Iterator[ChatCompletionChunk], settings: WriterSettings, ended: _End) -> Iterator[str]:
    deadline, length = time.monotonic() + settings.total_s, 0
    for chunk in stream:
        if time.monotonic() > deadline:
            raise ReportError(f"The report was not finished after {settings.total_s:g} s; try again or raise total_s.")
        for choice in chunk.choices[:1]:
            ended.reason = choice.finish_reason or ended.reason
            ended.refusal += choice.delta.refusal or ""
            piece = choice.delta.content or ""
            length += len(piece)
            if length > settings.most_characters:
                raise ReportError(
                    f"The model wrote more than {settings.most_characters} characters, which is no report; try again."
                )
            if piece:
                yield piece


def _whole(text: str, ended: _End) -> None:
    """Raise unless the text is a whole report."""
    words = ended.refusal.strip() or (text.strip() if len(text) < _SHORT and _DECLINES.match(text) else "")
    if words or ended.reason == "content_filter":
        said = f' ("{words[:200]}")' if words else ""
        raise ReportError(
            f"The language model refused to write this report{said}. Use the report without it, or another model."
        )
    if ended.reason is None:
        raise ReportError("The connection ended before the report did; what is there is not whole. Try again.")
    if ended.reason == "length":
        raise ReportError("The model ran out of tokens before the report ended; raise the server's limit.")
    if not text.strip():
        raise ReportError("The model answered without any text. Try again, or use a model that understands pictures.")
