"""A test's hold on a server: start it, break it, kill it, start it again, ask what it saw."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30.0
CONTROL_TIMEOUT_S = 10.0

Process = subprocess.Popen[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningQdrant:
    """
    A server process, at the same ports and over the same data through every restart.

    url        of its REST door, "http://127.0.0.1:PORT"
    processes  started so far, the last of which may be running
    """

    url: str
    port: int
    grpc_port: int
    options: tuple[str, ...]
    processes: list[Process]

    @property
    def pid(self) -> int:
        return self.processes[-1].pid

    def faults(self, kind: str, **settings: float | str | None) -> dict[str, Any]:
        """
        Arm a fault: the fields of `faults.Fault` by name, such as `status=503, count=None`.

        returns  what is armed now, and how often each kind has struck
        """
        return self._ask("/_faults", {"kind": kind, **settings})

    def clear(self) -> dict[str, Any]:
        """Disarm all faults."""
        return self._ask("/_faults", {"kind": "clear"})

    def struck(self) -> dict[str, int]:
        """Return how often each kind of fault has struck since the process was started."""
        counts: dict[str, int] = self._ask("/_faults")["struck"]
        return counts

    def stats(self) -> dict[str, Any]:
        """Return what came in since the process was started, or since `forget`."""
        return self._ask("/_stats")

    def forget(self) -> None:
        """Start the statistics anew."""
        self._ask("/_stats", {})

    def kill(self) -> None:
        """SIGKILL the process and wait until it is gone."""
        process = self.processes[-1]
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def start(self) -> None:
        """Start it again, without faults, and return when it answers."""
        ports = ("--port", str(self.port), "--grpc-port", str(self.grpc_port))
        self.processes.append(launch(self.options + ports))
        await_ports(self.processes[-1])

    def _ask(self, route: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + route, data), timeout=CONTROL_TIMEOUT_S) as reply:  # noqa: S310 - ours
            answer: dict[str, Any] = json.load(reply)
        return answer


@contextmanager
def running_qdrant(
    path: Path | None = None,
    *,
    api_key: str | None = None,
    max_body_bytes: int | None = None,
    server_version: str | None = None,
) -> Iterator[RunningQdrant]:
    """
    Run a server for as long as the block lasts.

    path            where its points outlive a kill; in memory if not given
    api_key         that each request must carry
    max_body_bytes  of a REST request, 32 MiB if not given
    server_version  that it reports, the client's own if not given
    """
    given = {
        "--path": path,
        "--api-key": api_key,
        "--max-body-bytes": max_body_bytes,
        "--server-version": server_version,
    }
    options = tuple(
        word for name, value in given.items() if value is not None for word in (name, str(value))
    )
    process = launch(options)
    ports = await_ports(process)
    server = RunningQdrant(
        url=f"http://127.0.0.1:{ports['port']}", options=options, processes=[process], **ports
    )
    try:
        yield server
    finally:
        server.kill()


def launch(options: tuple[str, ...]) -> Process:
    command = [sys.executable, "-m", "tests.servers.qdrant_server", "--end-with-stdin", *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def await_ports(process: Process) -> dict[str, int]:
    """Wait for the line that says where the server listens."""
    output: IO[str] | None = process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(output or process.pid, selectors.EVENT_READ)
        ready = selector.select(START_TIMEOUT_S)
    line = output.readline() if ready and output else ""
    if not line:
        process.kill()
        message = f"The test server did not start (exit status {process.wait()})."
        raise RuntimeError(message)
    ports: dict[str, int] = json.loads(line)
    return ports
