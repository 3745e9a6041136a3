"""A store that is not what it should be: an HTTP proxy in front of a real one; it counts, refuses, cuts, or is gone."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message><RequestId>0</RequestId></Error>"
)
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")


class WeakStore(ThreadingHTTPServer):
    """Passes requests on to `behind`, but for a share of them, drawn by `seed`.

    Half of the requests that go wrong are answered 503 without being passed on. Of the other half the connection is
    cut: before the request is passed on, or after half of the answer has been sent, as if the network had failed.
    """

    daemon_threads = True

    def __init__(self, behind: str, *, share: float = 0.0, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(behind).netloc
        self.share = share
        self.asked: Counter[str] = Counter()
        """Method -> requests; listings count as LIST."""
        self.fates: tuple[str, ...] = ("503", "503", "cut before", "cut after")
        """What may become of a request that goes wrong, each as likely."""
        self.went_wrong: Counter[str] = Counter()
        self.gone = False
        self.pause_s = 0.0
        """Before every answer, as from a store that is far away."""
        self._draws = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fate(self, method: str, path: str) -> str:
        """What becomes of a request: `passes`, `503`, `cut before` or `cut after`."""
        with self._lock:
            listing = method == "GET" and "list-type" in parse_qs(urlsplit(path).query, keep_blank_values=True)
            self.asked["LIST" if listing else method] += 1
            if self.gone:
                return "cut before"
            fate = "passes"
            if self._draws.random() < self.share:
                fate = self._draws.choice(self.fates)
                self.went_wrong[fate] += 1
            return fate

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to print a traceback for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WeakStore

    def _any(self) -> None:
        body = self._body()
        fate = self.server.fate(self.command, self.path)
        if fate == "503":
            self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
            return
        if fate == "cut before":
            self._cut()
            return
        time.sleep(self.server.pause_s)
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            behind.request(self.command, self.path, body=body, headers=headers | {"Content-Length": str(len(body))})
            answer = behind.getresponse()
            content = answer.read()
            self._answer(answer.status, dict(answer.getheaders()), content, cut=fate == "cut after")
        finally:
            behind.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815  (names that http.server looks for)

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self.headers.replace_header("Transfer-Encoding", "identity")
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def weak_store(behind: str, *, share: float = 0.0, seed: int = 0) -> Iterator[WeakStore]:
    """One that runs while the block does."""
    server = WeakStore(behind, share=share, seed=seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
