"""ASGI middlewares: bodies that grow too large end while they arrive, and every answer is counted."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve.problems import Refusal
from serve.telemetry import of_this_process

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class BodyLimit:
    """Answers 413 to bodies of more than `max_bytes`, declared or not, and never holds more than that of one."""

    def __init__(self, app: App, *, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await answer(send, self._refusal(int(declared)))
            return
        begun, seen = False, 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise self._refusal(seen)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except Refusal as refusal:
            if begun:
                raise
            await answer(send, refusal)

    def _refusal(self, got: int) -> Refusal:
        return Refusal(
            413,
            "body too large",
            f"body: wanted at most {self.max_bytes} bytes, got {got} or more; send fewer recordings at once",
            field="body",
            headers={"connection": "close"},
        )


class Counted:
    """Counts answers by path and status."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                of_this_process().answered(scope["path"], message["status"])
            await send(message)

        await self.app(scope, receive, noted)


async def answer(send: Send, refusal: Refusal) -> None:
    """Send a refusal as JSON."""
    of_this_process().refusals.labels(refusal.problem.code).inc()
    body = refusal.body()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
