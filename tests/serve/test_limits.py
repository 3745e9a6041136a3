"""Bodies that are too large end while they arrive."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from serve.limits import BodyLimit


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body and says how long it was."""
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message["body"])
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(total).encode()})


def call(chunks: list[bytes], headers: list[tuple[bytes, bytes]] | None = None) -> tuple[int, bytes, int]:
    """Status, body, and how many chunks were taken."""
    sent: list[MutableMapping[str, Any]] = []
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    limited = BodyLimit(read_all, max_bytes=10)
    asyncio.run(limited({"type": "http", "headers": headers or []}, receive, send))
    return sent[0]["status"], sent[1]["body"], len(chunks) - len(left)


def test_a_body_of_just_the_limit_goes_through() -> None:
    assert call([b"12345", b"67890"]) == (200, b"10", 2)


def test_reading_stops_with_the_chunk_that_is_too_much() -> None:
    status, body, taken = call([b"12345", b"678901", b"never read"])
    assert (status, taken) == (413, 2)
    assert json.loads(body)["error"] == {
        "code": "body too large",
        "field": "body",
        "message": "body: wanted at most 10 bytes, got 11 or more; send fewer recordings at once",
        "recording": None,
    }


@pytest.mark.parametrize(("declared", "status", "taken"), [(b"11", 413, 0), (b"10", 200, 1), (b"abc", 200, 1)])
def test_a_declared_length_is_believed_where_it_is_too_large(declared: bytes, status: int, taken: int) -> None:
    assert call([b"1"], [(b"content-length", declared)])[::2] == (status, taken)
