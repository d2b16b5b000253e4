"""Where Qdrant is, and this process' one client for it."""

from __future__ import annotations

import atexit
import math
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from qdrant_client import QdrantClient
from typing_extensions import override
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from fastembed_stream.errors import SettingError
from fastembed_stream.redaction import keep_secret, shown_url
from fastembed_stream.retry_after import seconds_of

__all__ = ["ENGINE_LOCK", "Server"]


_PORT = 6333
"""What the client tries where a URL has no port, whatever its scheme."""

_EXAMPLE = "http://localhost:6333 or https://qdrant.example.org:6333"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """
    Where Qdrant is: a server, a folder of this process, or its memory.

    url        'http://host:6333'; or path, or memory: one of the three
    path       a folder; one process at a time, shared by all its workers
    memory     True keeps everything in this process, for trials
    api_key    sent with each request
    grpc       talk gRPC, on grpc_port
    timeout_s  of one request
    """

    url: str | None = None
    path: Path | None = None
    memory: bool = False
    api_key: str | None = field(default=None, repr=False)
    grpc: bool = False
    grpc_port: int = 6334
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if sum((self.url is not None, self.path is not None, self.memory)) != 1:
            msg = f"Where is Qdrant? Expected exactly one of url, path, memory; got {self}."
            raise SettingError(msg)
        keep_secret(self.api_key)
        if self.url is not None:
            keep_secret(*_password(self.url))

    @override
    def __repr__(self) -> str:
        where = shown_url(self.url) if self.url is not None else self.path or ":memory:"
        return f"Server({str(where)!r}, grpc={self.grpc})"

    @property
    def shown(self) -> str:
        """Say where requests go, with the port that is tried where the URL names none."""
        if self.url is None:
            return str(self.path or "in memory")
        found = _checked(self.url)
        scheme, host = found.scheme or "http", found.host
        if self.grpc:
            return f"{scheme}://{host}:{self.grpc_port} (gRPC)"
        return f"{scheme}://{host}:{found.port or _PORT}{(found.path or '').rstrip('/')}"

    @property
    def local(self) -> bool:
        """Tell whether the engine runs in this process."""
        return self.url is None

    @property
    def whole_timeout_s(self) -> int:
        """Give the time limit of one request as the client takes it: at least a second."""
        return max(int(self.timeout_s), 1)

    def client(self) -> QdrantClient:
        """
        Give this process' one client for the server.

        raises  SettingError where the folder cannot be opened, or another process has it
        """
        with _CLIENTS_LOCK:
            if self not in _CLIENTS:
                _CLIENTS[self] = self._connected()
            return _CLIENTS[self]

    def close(self) -> None:
        """Close this process' client, if there is one; a local folder is then free for others."""
        with _CLIENTS_LOCK:
            client = _CLIENTS.pop(self, None)
        if client is not None:
            client.close()

    def _connected(self) -> QdrantClient:
        if self.memory:
            return QdrantClient(":memory:")
        if self.path is not None:
            return _folder(self.path)
        _checked(self.url or "")
        client = QdrantClient(
            url=self.url,
            api_key=self.api_key,
            prefer_grpc=self.grpc,
            grpc_port=self.grpc_port,
            timeout=self.whole_timeout_s,
            check_compatibility=False,
        )
        client.http.client.add_middleware(_with_readable_wait)
        return client


def _with_readable_wait(
    request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]
) -> httpx.Response:
    """Put a wait that the server asks for in whole seconds: the client takes no other."""
    response = send(request)
    asked = response.headers.pop("Retry-After", None)
    seconds = seconds_of(asked)
    if seconds is not None:
        response.headers["Retry-After"] = str(math.ceil(seconds))
    return response


def _checked(url: str) -> Url:
    try:
        # The client takes 'localhost:6333' for a host, and 'other:6333' for a scheme.
        found = parse_url(f"//{url}" if url.startswith("localhost") else url)
    except LocationParseError as error:
        msg = f"{shown_url(url)!r} is not a URL ({error}). Expected one like {_EXAMPLE}."
        raise SettingError(msg) from error
    if found.scheme not in {None, "http", "https"} or not found.host:
        msg = f"{shown_url(url)!r} is not the URL of a Qdrant server. Expected one like {_EXAMPLE}."
        raise SettingError(msg)
    return found


def _password(url: str) -> tuple[str, ...]:
    user, at, _ = url.partition("//")[2].rpartition("@")
    return (user.partition(":")[2],) if at else ()


def _folder(path: Path) -> QdrantClient:
    try:
        client = QdrantClient(path=str(path), force_disable_check_same_thread=True)
    except (OSError, sqlite3.Error) as error:
        msg = f"Folder {path} of Qdrant cannot be opened: {error}. Choose another, or free it."
        raise SettingError(msg) from error
    except RuntimeError as error:
        if "already accessed" not in str(error):
            raise
        msg = (
            f"Another process has Qdrant's folder {path}: one process at a time. End that one, "
            "choose another folder, or use a server."
        )
        raise SettingError(msg) from error
    atexit.register(client.close)  # its own finalizer fails once the interpreter ends
    return client


_CLIENTS: dict[Server, QdrantClient] = {}
_CLIENTS_LOCK = threading.Lock()
ENGINE_LOCK = threading.Lock()
"""The engine in this process is not made for several writers at a time."""
