"""
A small Qdrant in a process of its own: `python -m tests.servers.qdrant_server --help`.

It speaks what qdrant-client's remote mode sends, over REST and gRPC, and keeps its points with
qdrant-client's local mode. It is for tests: it holds all in memory, and it breaks when told to.
When it listens, it prints one line of JSON with its two ports.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import sys
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from tests.servers.engine import IN_MEMORY, Engine
from tests.servers.faults import Faults, Gate, Stats
from tests.servers.qdrant_grpc import open_server
from tests.servers.qdrant_rest import House, RestServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
# Below the ports that a kernel lends to outgoing connections: while the server is down, no client
# can be given its port, nor connect to itself by dialling the port that it dials from.
FREE_PORTS = range(20_000, 30_000)
N_TRIES = 100


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qdrant_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="for REST; 0: any that is free")
    parser.add_argument("--grpc-port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--path", default=IN_MEMORY, help="a folder; in memory if not given")
    parser.add_argument("--api-key", help="required of each request, if given")
    parser.add_argument("--max-body-bytes", type=int, default=32 << 20, help="REST; else 413")
    parser.add_argument(
        "--server-version", default=version("qdrant-client"), help="that it says it is"
    )
    parser.add_argument(
        "--end-with-stdin", action="store_true", help="end when the standard input closes"
    )
    return parser.parse_args(arguments)


def listen(port: int, open_at: Callable[[int], T]) -> T:
    """Open a server at a port; at 0, at the first free port that chance finds."""
    if port:
        return open_at(port)
    for _ in range(N_TRIES):
        try:
            return open_at(random.choice(FREE_PORTS))  # noqa: S311 - no secret
        except (OSError, RuntimeError) as taken:
            if isinstance(taken, OSError) and taken.errno != errno.EADDRINUSE:
                raise
    message = f"No free port found in {FREE_PORTS} after {N_TRIES} tries."
    raise RuntimeError(message)


def end_with_stdin() -> None:
    """Leave no orphan behind a test run that was killed."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    options = parse()
    stats = Stats()
    house = House(
        engine=Engine(options.path, stats.upserted),
        gate=Gate(faults=Faults(), stats=stats),
        version=options.server_version,
        api_key=options.api_key,
        max_body_bytes=options.max_body_bytes,
    )
    rest = listen(options.port, lambda port: RestServer(port, house))
    grpc_port = options.grpc_port

    def open_grpc(port: int) -> object:
        nonlocal grpc_port
        grpc_port = port
        return open_server(house, port)

    doors = rest, listen(options.grpc_port, open_grpc)
    if options.end_with_stdin:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    sys.stdout.write(json.dumps({"port": rest.server_port, "grpc_port": grpc_port}) + "\n")
    sys.stdout.flush()
    doors[0].serve_forever()


if __name__ == "__main__":
    main()
