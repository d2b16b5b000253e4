"""A web server of images on this machine, which does what a bad one would do."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

from typing_extensions import override

__all__ = ["ImageServer", "image_server"]

Answer: TypeAlias = "Callable[[_Handler], object]"
PICTURE = b"\x89PNG not really"


class ImageServer(ThreadingHTTPServer):
    """
    Routes and what was asked.

    answers   what a path does; may be changed while it runs
    requests  path and headers of each request, names in lower case
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.busy_left = 2
        self.now, self.most = 0, 0
        self.lock = threading.Lock()
        self.answers: dict[str, Answer] = {
            "/cat.png": lambda to: to.send(200, PICTURE),
            "/untyped": lambda to: to.send(200, PICTURE, {}),
            "/empty": lambda to: to.send(200, b""),
            "/page": lambda to: to.send(200, b"<html>", {"Content-Type": "text/html; charset=x"}),
            "/gone": lambda to: to.send(404, b""),
            "/partial": lambda to: to.send(206, PICTURE),
            "/busy": _busy,
            "/broken": lambda to: to.send(503, b""),
            "/wait": lambda to: to.send(429, b"", {"Retry-After": "3600"}),
            "/gzip": lambda to: to.send(
                200,
                gzip.compress(bytes(10_000_000)),
                {"Content-Type": "image/png", "Content-Encoding": "gzip"},
            ),
            "/huge": lambda to: to.begin(200, {"Content-Length": str(10**12)}),
            "/endless": _endless,
            "/drip": _drip,
            "/drip-header": _drip_header,
            "/silent": lambda to: to.wait(),
            "/cut": lambda to: to.send(200, PICTURE, {"Content-Length": "1000"}),
            "/cookie": lambda to: to.send(200, PICTURE, {"Set-Cookie": "a=b"}),
            "/slow": _slow,
            "/surplus": lambda to: to.raw(
                b"Content-Length: %d\r\n\r\n" % len(PICTURE), PICTURE * 9
            ),
            "/both": lambda to: to.raw(
                b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE),
            ),
            "/two-lengths": lambda to: to.raw(
                b"Content-Length: 4\r\nContent-Length: 5000\r\n\r\n", PICTURE
            ),
            "/odd-length": lambda to: to.raw(
                "Content-Length: \u0663".encode("utf-8") + b"\r\n\r\n", PICTURE
            ),
            "/gzip-transfer": lambda to: to.raw(
                b"Transfer-Encoding: gzip, chunked\r\n\r\n", gzip.compress(PICTURE)
            ),
        }

    @property
    def port(self) -> int:
        return self.server_port

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        """Let a path lead elsewhere."""
        self.answers[path] = lambda to: to.send(status, b"", {"Location": location})

    def asked(self, path: str) -> int:
        """Count the requests of a path."""
        return sum(one == path for one, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    server: ImageServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers))
        answer = self.server.answers.get(self.path.partition("?")[0])
        try:
            if answer is None:
                self.send(404, b"")
            else:
                answer(self)
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        given = {"Content-Type": "image/png"} if headers is None else headers
        self.begin(status, {"Content-Length": str(len(body)), **given})
        self.wfile.write(body)
        if given.get("Content-Length"):
            self.close_connection = True

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def raw(self, headers: bytes, body: bytes) -> None:
        """Answer as no library would."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" + headers + body)
        self.close_connection = True

    def wait(self, seconds: float = 20.0) -> bool:
        """Wait; tell whether the server closes."""
        return self.server.closing.wait(seconds)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests quiet."""


def _busy(to: _Handler) -> None:
    to.server.busy_left -= 1
    if to.server.busy_left >= 0:
        to.send(429, b"", {"Retry-After": "0"})
    else:
        to.send(200, PICTURE)


def _endless(to: _Handler) -> None:
    to.begin(200, {"Content-Type": "image/png", "Connection": "close"})
    while not to.wait(0):
        to.wfile.write(bytes(65_536))


def _drip(to: _Handler) -> None:
    to.begin(200, {"Content-Type": "image/png", "Content-Length": "100000"})
    while not to.wait(0.02):
        to.wfile.write(b"x")


def _drip_header(to: _Handler) -> None:
    to.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not to.wait(0.02):
        to.wfile.write(b"x")


def _slow(to: _Handler) -> None:
    with to.server.lock:
        to.server.now += 1
        to.server.most = max(to.server.most, to.server.now)
    time.sleep(0.02)
    with to.server.lock:
        to.server.now -= 1
    to.send(200, PICTURE)


@contextmanager
def image_server(tls: ssl.SSLContext | None = None) -> Iterator[ImageServer]:
    """Run a server for as long as the block lasts; with `tls` it speaks https alone."""
    server = ImageServer()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
