"""Every operator passes under each of Bytewax' ways to run: threads differ, and so do bugs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from bytewax.recovery import RecoveryConfig
from confluent_kafka import Producer

from flows.local_broker import running_broker
from operators import Server
from operators.shutdown import STOP
from tests.operators.qdrant_things import over_grpc, over_rest
from tests.operators.things import EntryPoint, on_workers, store
from tests.servers import RunningQdrant, running_qdrant


@pytest.fixture(params=[0, 1, 2], ids=["run_main", "cluster_main-1", "cluster_main-2"])
def entry_point(request: pytest.FixtureRequest) -> EntryPoint:
    return on_workers(request.param)


@pytest.fixture
def recovery_config(tmp_path: Path) -> RecoveryConfig:
    return store(tmp_path / "recovery")


@pytest.fixture(autouse=True)
def _going(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No request to stop comes from another test, nor goes to one."""
    monkeypatch.setattr(STOP, "drain_s", STOP.drain_s)
    STOP.reset()
    yield
    STOP.reset()


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    """Give the address of a broker that all tests of a run share, each with topics of its own."""
    with running_broker() as address:
        yield address


@pytest.fixture(scope="session")
def mock_cluster() -> Iterator[str]:
    """Give librdkafka's own cluster in memory, the one that says when an offset is out of range."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = producer.list_topics(timeout=5).brokers[1]
    yield f"{broker.host}:{broker.port}"
    del producer


@pytest.fixture(scope="session")
def _qdrant() -> Iterator[RunningQdrant]:
    with running_qdrant() as server:
        yield server


@pytest.fixture
def qdrant(_qdrant: RunningQdrant) -> Iterator[RunningQdrant]:
    """Give the server that all tests of a run share, without faults or statistics."""
    _qdrant.clear()
    _qdrant.forget()
    yield _qdrant
    _qdrant.clear()


@pytest.fixture(params=["memory", "path", "rest", "grpc"])
def store_at(
    request: pytest.FixtureRequest, qdrant: RunningQdrant, tmp_path: Path
) -> Iterator[Server]:
    """Give every kind of place that points can be stored in."""
    match request.param:
        case "memory":
            server = Server(memory=True)
        case "path":
            server = Server(path=tmp_path / "qdrant")
        case "rest":
            server = over_rest(qdrant)
        case _:
            server = over_grpc(qdrant)
    yield server
    server.close()


@pytest.fixture
def rest(qdrant: RunningQdrant) -> Iterator[Server]:
    server = over_rest(qdrant)
    yield server
    server.close()


@pytest.fixture(params=["rest", "grpc"])
def remote(request: pytest.FixtureRequest, qdrant: RunningQdrant) -> Iterator[Server]:
    server = over_rest(qdrant) if request.param == "rest" else over_grpc(qdrant)
    yield server
    server.close()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that retries would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr("operators.qdrant.sink._nap", slept.append)
    return slept
