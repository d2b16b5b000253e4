"""The REST door: routes, bodies and errors as Qdrant has them, and the control routes beside."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import override

from tests.servers.engine import OPERATIONS, SERVICE_ERROR, Engine
from tests.servers.faults import Carried, Fault, Gate, HangUp, Refusal
from tests.servers.strictness import BAD_INPUT

OK, UNAUTHORIZED, UNKNOWN_ROUTE, LENGTH_REQUIRED, TOO_LARGE = 200, 401, 404, 411, 413
GREETINGS = frozenset({"/", "/healthz", "/readyz", "/livez"})
# On closing, drop what is in flight and send RST instead of FIN.
LINGER_NOT = struct.pack("ii", 1, 0)

# {c} stands for the collection, {field} for the one body that comes in a path.
ROUTES = {
    ("GET", "collections"): "list",
    ("GET", "collections/{c}"): "info",
    ("PUT", "collections/{c}"): "create",
    ("PATCH", "collections/{c}"): "update",
    ("DELETE", "collections/{c}"): "drop",
    ("GET", "collections/{c}/exists"): "exists",
    ("PUT", "collections/{c}/index"): "create_index",
    ("DELETE", "collections/{c}/index/{field}"): "delete_index",
    ("PUT", "collections/{c}/points"): "upsert",
    ("POST", "collections/{c}/points"): "retrieve",
    ("POST", "collections/{c}/points/batch"): "batch",
    ("POST", "collections/{c}/points/count"): "count",
    ("POST", "collections/{c}/points/delete"): "delete",
    ("POST", "collections/{c}/points/scroll"): "scroll",
    ("POST", "collections/{c}/points/query"): "query",
    ("POST", "collections/{c}/points/query/batch"): "query_batch",
    ("POST", "collections/{c}/points/payload"): "set_payload",
    ("PUT", "collections/{c}/points/payload"): "overwrite_payload",
    ("POST", "collections/{c}/points/payload/delete"): "delete_payload",
    ("POST", "collections/{c}/points/payload/clear"): "clear_payload",
    ("PUT", "collections/{c}/points/vectors"): "update_vectors",
    ("POST", "collections/{c}/points/vectors/delete"): "delete_vectors",
}


class Target(NamedTuple):
    """What a request line means."""

    operation: str
    collection: str
    field: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What both doors share."""

    engine: Engine
    gate: Gate
    version: str
    api_key: str | None
    max_body_bytes: int


class RestServer(ThreadingHTTPServer):
    """Listens on the loopback; a port that was used a moment ago can be used again."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, house: House) -> None:
        self.house = house
        super().__init__(("127.0.0.1", port), Handler)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: some tests kill theirs."""


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive for as long as the client likes."""

    protocol_version = "HTTP/1.1"
    # Head and body leave in one segment: no 40 ms of waiting for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: RestServer

    def answer_any(self) -> None:
        """Serve one request of any method, and never break the connection unasked."""
        try:
            self.say(OK, self.serve(urlsplit(self.path).path))
        except HangUp:
            self.hang_up()
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception as error:  # noqa: BLE001 - the border: a bug here is an answer there
            self.refuse(Refusal(SERVICE_ERROR, f"Service internal error: {error!r}"))

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer_any  # noqa: N815 - as inherited

    def serve(self, path: str) -> object:
        house = self.server.house
        body = self.read_body()
        if path in {"/_faults", "/_stats"}:
            return self.control(path, body)
        if path in GREETINGS:
            title = "qdrant - vector search engine"
            return {"title": title, "version": house.version, "commit": None}
        if house.api_key not in {None, self.headers.get("api-key")}:
            message = "Must provide an API key or an Authorization bearer token"
            raise Refusal(UNAUTHORIZED, message)
        target = find(self.command, path)
        carried = Carried(
            size_bytes=len(body), content=lambda: body, n_items=lambda: count_items(body)
        )
        answer = house.gate.serve(target.operation, carried, lambda: self.apply(target, body))
        return {"result": answer, "status": "ok", "time": 0.0}

    def apply(self, target: Target, body: bytes) -> object:
        query = parse_qs(urlsplit(self.path).query)
        wait = query.get("wait", ["false"])[-1] == "true"
        request = target.field if target.field is not None else parse(target.operation, body)
        return self.server.house.engine.run(target.operation, target.collection, request, wait=wait)

    def control(self, path: str, body: bytes) -> object:
        """Arm or tell the faults, forget or tell the statistics."""
        board = self.server.house.gate
        wanted = json.loads(body) if body else {}
        match self.command, path, wanted.get("kind"):
            case "POST", "/_faults", "clear":
                board.faults.clear()
            case "POST", "/_faults", _:
                try:
                    board.faults.arm(Fault(**wanted))
                except (TypeError, ValueError) as error:
                    raise Refusal(BAD_INPUT, str(error)) from error
            case "POST", _, _:
                board.stats.reset()
        return board.faults.report() if path == "/_faults" else board.stats.report()

    def read_body(self) -> bytes:
        """Return the body, b"" where there is none; refuse one that is over the limit."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refusal(LENGTH_REQUIRED, "Length required")
        n_bytes = int(self.headers.get("Content-Length", 0))
        if n_bytes <= self.server.house.max_body_bytes:
            return self.rfile.read(n_bytes)
        # Read on to the end: a client that is cut off while it sends may never see the answer.
        while n_bytes > 0:
            n_bytes -= len(self.rfile.read(min(n_bytes, 1 << 20))) or n_bytes
        raise Refusal(TOO_LARGE, "Payload too large")

    def say(self, status: int, answer: object, retry_after_s: float | str | None = None) -> None:
        content = to_json(answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after_s is not None:
            # Headers are written as Latin-1; what is none goes out in UTF-8.
            self.send_header("Retry-After", str(retry_after_s).encode().decode("latin-1"))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, refusal: Refusal) -> None:
        answer = {"status": {"error": refusal.message}, "time": 0.0, "result": None}
        self.say(refusal.status, answer, refusal.retry_after_s)

    def hang_up(self) -> None:
        """Reset the connection: the client reads ECONNRESET, not the end of a stream."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        # Detached, since the readers and writers of the connection would keep it open.
        socket.close(self.connection.detach())

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


def find(method: str, path: str) -> Target:
    """Find what a request line means or refuse it."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    collection = parts[1] if len(parts) > 1 else ""
    pattern = ["{c}" if at == 1 else part for at, part in enumerate(parts)]
    is_field = pattern[2:3] == ["index"] and len(pattern) > 3
    field = "/".join(parts[3:]) if is_field else None
    if is_field:
        pattern[3:] = ["{field}"]
    operation = ROUTES.get((method, "/".join(pattern)))
    if operation is None:
        raise Refusal(UNKNOWN_ROUTE, f"No route {method} {path} on this server")
    return Target(operation, collection, field)


def count_items(body: bytes) -> int:
    """Count the points or queries of a request."""
    told = json.loads(body) if body else {}
    return len(told.get("points") or told.get("searches") or ())


def parse(operation: str, body: bytes) -> object:
    """Read the body of an operation; None where it has none."""
    if OPERATIONS[operation].request is None:
        return None
    try:
        return adapter(operation).validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = f"Format error in JSON body: {first['msg']} at {first['loc']}"
        raise Refusal(BAD_INPUT, message) from error


@cache
def adapter(operation: str) -> TypeAdapter[Any]:
    """Build the parser of an operation when it is first asked for: a server starts in no time."""
    return TypeAdapter(OPERATIONS[operation].request)
