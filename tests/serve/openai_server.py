"""A server on loopback that speaks OpenAI's chat completions, as far as reports need it: well, or badly on purpose.

How it behaves is the name of the model that is asked for (see `BEHAVIOURS`); any other name gets a 404. What it was
sent is at GET /requests, as JSON. In a test: `with openai_server() as server:`; as a process of its own:
`python -m tests.serve.openai_server --port 0`, which prints its base URL.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-of-the-tests-0123456789"
CLOSING = " This is not a diagnosis."


@dataclass(kw_only=True)
class OpenAIServer:
    """A server that runs, and what it was sent."""

    base_url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Each with `path`, `headers` (names in small letters) and `body`."""
    go_on: threading.Event = field(default_factory=threading.Event)
    """What `stepwise` waits for after its first piece, and `silent` and `stalls` until the end."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: OpenAIServer

    def do_GET(self) -> None:
        self.json(200, self.state.requests)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.state.requests.append({"path": self.path, "headers": headers, "body": body})
        behave = BEHAVIOURS.get(body.get("model", ""))
        if behave is None:
            self.json(404, error("The model does not exist", "model_not_found"))
        else:
            behave(self, body)

    def json(self, status: int, value: Any, **headers: str) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def event(self, data: str) -> None:
        content = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def piece(self, finish: str | None = None, **delta: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event(json.dumps(chunk([choice])))

    def end(self, finish: str | None = "stop") -> None:
        if finish:
            self.piece(finish)
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}


def error(words: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": words, "type": "invalid_request_error", "code": code, "param": None}}


def facts_in(body: dict[str, Any]) -> dict[str, Any]:
    """The facts that a request holds."""
    facts: dict[str, Any] = json.loads(body["messages"][-1]["content"][0]["text"])
    return facts


def true_text(body: dict[str, Any]) -> str:
    """A report that agrees with the facts of the request."""
    facts = facts_in(body)
    if facts["withheld"]:
        return "The result is withheld and not to be relied on." + CLOSING
    seen = [each["label"] for each in facts["labels"] if each.get("present")]
    unseen = [each["label"] for each in facts["labels"] if each.get("present") is False]
    return "".join(
        [
            f"The model sees {' and '.join(seen)}. " if seen else "",
            f"It does not see {' or '.join(unseen)}." if unseen else "",
            CLOSING,
        ]
    )


def false_text(body: dict[str, Any]) -> str:
    """A report that denies what the model sees, or asserts what it does not."""
    labels = facts_in(body)["labels"]
    seen = next((each["label"] for each in labels if each.get("present")), None)
    other = labels[-1]["label"]
    return (f"There is no evidence of {seen}." if seen else f"The model sees {other}.") + CLOSING


def writes(text: Callable[[dict[str, Any]], str], pause_s: float = 0.0) -> Callable[[Handler, dict[str, Any]], None]:
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        handler.stream()
        handler.piece(role="assistant", content="")
        for word in text(body).split(" "):
            handler.piece(content=word + " ")
            time.sleep(pause_s)
        handler.end()

    return behave


def stepwise(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.piece(content="First piece. ")
    handler.state.go_on.wait(60)
    handler.piece(content="Second piece." + CLOSING)
    handler.end()


def silent(handler: Handler, _: dict[str, Any]) -> None:
    handler.state.go_on.wait(60)
    handler.close_connection = True


def stalls(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.piece(content="The model ")
    handler.state.go_on.wait(60)
    handler.close_connection = True


def cuts(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.piece(content="The model sees ")
    handler.close_connection = True  # without the last chunk of the transfer


def ends_early(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.piece(content="The model sees ")
    handler.end(finish=None)


def refuses(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.piece(role="assistant", refusal="I can't help ")
    handler.piece(refusal="with medical images.")
    handler.end()


def ended_by(finish: str, text: str) -> Callable[[Handler, dict[str, Any]], None]:
    def behave(handler: Handler, _: dict[str, Any]) -> None:
        handler.stream()
        if text:
            handler.piece(content=text)
        handler.end(finish)

    return behave


def fails_within(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.piece(content="The model ")
    handler.event(json.dumps(error("CUDA out of memory")))
    handler.wfile.write(b"0\r\n\r\n")


def status(code: int, words: str = "no", **headers: str) -> Callable[[Handler, dict[str, Any]], None]:
    def behave(handler: Handler, _: dict[str, Any]) -> None:
        # As careless as a server can be: it repeats the key that it was sent.
        handler.json(code, error(f"{words}: {handler.headers['authorization']}"), **headers)

    return behave


def speaks_otherwise(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream()
    handler.event("<html>")
    handler.wfile.write(b"0\r\n\r\n")


BEHAVIOURS: dict[str, Callable[[Handler, dict[str, Any]], None]] = {
    "true": writes(true_text),
    "slow-true": writes(true_text, pause_s=0.1),
    "false": writes(false_text),
    "no-closing": writes(lambda body: true_text(body).removesuffix(CLOSING)),
    "stepwise": stepwise,
    "silent": silent,
    "stalls": stalls,
    "cuts": cuts,
    "ends-early": ends_early,
    "refuses": refuses,
    "refuses-in-words": ended_by("stop", "I'm sorry, but I can't help with interpreting medical images."),
    "filters": ended_by("content_filter", "The model"),
    "too-short": ended_by("length", "The model sees"),
    "empty": ended_by("stop", ""),
    "endless": ended_by("stop", "The model " * 5000),
    "fails-within": fails_within,
    "speaks-otherwise": speaks_otherwise,
    "key-unknown": status(401, "Incorrect API key provided"),
    "forbidden": status(403),
    "rate-limited": status(429, "Rate limit reached", retry_after="7"),
    "bad-request": status(400, "This model does not support images"),
    "broken": status(500),
    "overloaded": status(503),
    "moved": status(307, location="http://127.0.0.1:9/v1/chat/completions"),
}


@contextmanager
def openai_server(port: int = 0) -> Iterator[OpenAIServer]:
    """Run one in a thread."""
    handler = type("Handler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    handler.state = state = OpenAIServer(base_url=f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server of the tests.")
    parser.add_argument("--port", type=int, default=0)
    with openai_server(parser.parse_args().port) as server:
        print(server.base_url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
