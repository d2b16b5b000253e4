"""One server for all tests of a file, wiped before each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers import RunningQdrant, running_qdrant
from tests.servers.things import connected, create

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdrant_client import QdrantClient


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningQdrant]:
    with running_qdrant() as server:
        yield server


@pytest.fixture
def server(shared: RunningQdrant) -> RunningQdrant:
    """Return the shared server without faults, statistics or collections."""
    shared.clear()
    shared.forget()
    with connected(shared) as client:
        for found in client.get_collections().collections:
            client.delete_collection(found.name)
    return shared


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningQdrant) -> Iterator[QdrantClient]:
    with connected(server, prefer_grpc=request.param) as client:
        yield client


@pytest.fixture
def rest(server: RunningQdrant) -> Iterator[QdrantClient]:
    with connected(server) as client:
        create(client)
        yield client


@pytest.fixture
def over_grpc(server: RunningQdrant) -> Iterator[QdrantClient]:
    with connected(server, prefer_grpc=True) as client:
        create(client)
        yield client
