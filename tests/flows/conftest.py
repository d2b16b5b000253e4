"""No environment of the machine reaches a test, and no request to stop leaves one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import running_broker
from flows.settings import PREFIX
from operators.shutdown import STOP
from tests.servers import RunningQdrant, running_qdrant


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    STOP.reset()
    yield
    STOP.reset()


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with running_broker() as address:
        yield address


@pytest.fixture(scope="module")
def _server() -> Iterator[RunningQdrant]:
    with running_qdrant() as running:
        yield running


@pytest.fixture
def server(_server: RunningQdrant) -> Iterator[RunningQdrant]:
    """Give the server that the tests of a file share, without collections."""
    yield _server
    client = QdrantClient(url=_server.url, check_compatibility=False)
    for found in client.get_collections().collections:
        client.delete_collection(found.name)
    client.close()
