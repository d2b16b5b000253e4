"""
A stand-in for the Hugging Face hub on 127.0.0.1, with faults that can be switched on.

It answers what `huggingface_hub` asks: what a revision is and holds, the tree of files, and the
files themselves. As at the real hub, large files (LFS) are redirected to a second origin. Any
other path can be given content too, which makes it a plain web server for tarballs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal
from urllib.parse import unquote, urlsplit

from typing_extensions import Self, override

__all__ = ["Fault", "HubServer", "Request"]

_LFS = (".onnx", ".onnx_data", ".safetensors")


@dataclass(kw_only=True)
class Fault:
    """
    What goes wrong on a path, `times` times.

    on       a part of the path
    kind     'status': answer `status`; 'hang': say nothing; 'stall': send `n_bytes` and fall
             silent; 'cut': send `n_bytes` of a longer answer and hang up; 'short': send `n_bytes`
             as if that were all; 'corrupt': the right length, wrong bytes; 'whole': send all,
             whatever range was asked for; 'long': `n_bytes` more than there are; 'endless': never
             stop, without telling a length; 'packed': by gzip, and say so
    headers  sent along, such as Retry-After
    """

    on: str
    kind: Literal[
        "status", "hang", "stall", "cut", "short", "corrupt", "whole", "long", "endless", "packed"
    ]
    times: int = 1_000_000
    status: int = 500
    n_bytes: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked for; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class HubServer:
    """
    One repository at one commit, and free paths; use it in a `with` block.

    repo     'organization/name'
    files    content by path in the repository; may be changed while it runs
    commit   the hash that its only branch, main, stands for
    pages    content by path of the server, for everything that is not a repository
    faults   what goes wrong; the first that fits a request counts
    requests what was asked, in order
    n_endless  bytes sent of what never ends
    """

    def __init__(
        self,
        repo: str,
        files: Mapping[str, bytes],
        *,
        commit: str = "c0ffee" + "0" * 34,
        pages: Mapping[str, bytes] | None = None,
    ) -> None:
        self.repo = repo
        self.files = dict(files)
        self.commit = commit
        self.pages = dict(pages or {})
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.n_endless = 0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        for server in self._servers:
            server.daemon_threads = True

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn_url(self) -> str:
        """The other origin, to which large files are redirected; the client looks at the name."""
        return f"http://localhost:{self._servers[1].server_port}"

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def gets(self, part: str = "") -> list[Request]:
        """Give the GET requests whose path has `part`."""
        return [asked for asked in self.requests if asked.method == "GET" and part in asked.path]

    def note(self, request: Request) -> Fault | None:
        """Remember a request, and give what is to go wrong with it."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and fault.on in request.path:
                    fault.times -= 1
                    return fault
        return None

    def info(self) -> dict[str, object]:
        """Give what /api/models/REPO/revision/main?blobs=true answers."""
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content)}
            entry["blobId"] = git_hash(content)
            if name.endswith(_LFS):
                entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {
            "_id": "0",
            "id": self.repo,
            "modelId": self.repo,
            "sha": self.commit,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }

    def tree(self) -> list[dict[str, object]]:
        """Give what /api/models/REPO/tree/main?recursive=true answers."""
        entries = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"type": "file", "path": name, "size": len(content)}
            entry["oid"] = git_hash(content)
            if name.endswith(_LFS):
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return entries


def sha256(content: bytes) -> str:
    """Hash as LFS does."""
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    """Hash as git does with a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.hub.note(Request(method=self.command, path=path, headers=headers))
        if fault is not None and fault.kind == "status":
            self._send(fault.status, b"a fault", fault.headers)
        elif fault is not None and fault.kind == "hang":
            self._hang()
        else:
            self._route(path, fault)

    do_HEAD = do_GET  # noqa: N815 -- the name that http.server calls

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests quiet."""

    def _route(self, path: str, fault: Fault | None) -> None:
        hub = self.hub
        api, main = f"/api/models/{hub.repo}", {"main", hub.commit}
        if path in hub.pages:
            self._content(hub.pages[path], {}, fault)
        elif path in {f"{api}/revision/{revision}" for revision in main} | {api}:
            self._json(hub.info())
        elif path in {f"{api}/tree/{revision}" for revision in main}:
            self._json(hub.tree())
        elif path.startswith("/cdn/") and path.removeprefix("/cdn/") in hub.files:
            self._content(hub.files[path.removeprefix("/cdn/")], {}, fault)
        elif path.startswith(f"/{hub.repo}/resolve/"):
            revision, _, name = path.removeprefix(f"/{hub.repo}/resolve/").partition("/")
            self._resolve(name if revision in main else "", fault)
        elif path.startswith((f"{api}/", f"/{hub.repo}/")):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _resolve(self, name: str, fault: Fault | None) -> None:
        content = self.hub.files.get(name)
        headers = {"X-Repo-Commit": self.hub.commit}
        if content is None:
            self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        elif name.endswith(_LFS):
            headers["X-Linked-Size"] = str(len(content))
            headers["X-Linked-ETag"] = f'"{sha256(content)}"'
            self._send(302, b"", headers | {"Location": f"{self.hub.cdn_url}/cdn/{name}"})
        else:
            self._content(content, headers | {"ETag": f'"{git_hash(content)}"'}, fault)

    def _content(self, content: bytes, headers: Mapping[str, str], fault: Fault | None) -> None:
        kind, n_bytes = (fault.kind, fault.n_bytes) if fault is not None else ("", 0)
        if kind == "corrupt":
            content = bytes(byte ^ 0xFF for byte in content)
        elif kind == "short":
            content = content[:n_bytes]
        elif kind == "long":
            content += bytes(n_bytes)
        elif kind == "packed":
            content = gzip.compress(content)
            headers = {**headers, "Content-Encoding": "gzip"}
        elif kind == "endless":
            self._endless(content)
            return
        status, start = 200, 0
        wanted = self.headers.get("Range")
        if wanted is not None and kind != "whole":
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers = {**headers, "Content-Range": span}
        rest = content[start:]
        if kind in {"cut", "stall"}:
            self._begin(status, len(rest), headers)
            self.wfile.write(rest[:n_bytes])
            self.wfile.flush()
            if kind == "stall":
                self._hang()
            self.close_connection = True
        else:
            self._send(status, rest, headers)

    def _endless(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with suppress(ConnectionError):
            while not self.hub.closing.is_set():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
                self.hub.n_endless += len(content)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._begin(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang(self) -> None:
        self.hub.closing.wait(20)
        self.close_connection = True
