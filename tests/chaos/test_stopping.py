"""SIGTERM at any moment: exit code 0, nothing buffered is lost, and a resume repeats nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import free_port, produce
from tests.chaos.deployment import COLLECTION, TOPIC, Deployment, deployed, documents
from tests.servers import RunningQdrant, running_qdrant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_DOCUMENTS = 600


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningQdrant]:
    with running_qdrant(tmp_path / "server") as running:
        yield running


@pytest.fixture
def flow(tmp_path: Path, brokers: str, server: RunningQdrant) -> Iterator[Deployment]:
    with deployed(tmp_path / "flow", brokers, STREAM_QDRANT_URL=server.url) as deployment:
        yield deployment


def written(server: RunningQdrant) -> int:
    """Count all points that were ever written, repeats included."""
    return sum(server.stats()["points_per_upsert"])


def _wait_for_points(flow: Deployment, server: RunningQdrant, n_points: int) -> None:
    flow.wait_for(lambda: written(server) >= n_points)


def test_stops_and_resumes_write_each_document_exactly_once(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    produce(brokers, TOPIC, documents(N_DOCUMENTS))
    for n_workers, until in ((1, 40), (2, 150), (1, 300)):
        flow.start(n_workers)
        _wait_for_points(flow, server, until)
        assert flow.stop() == [0]
    flow.start()
    flow.wait_for(lambda: written(server) >= N_DOCUMENTS)
    flow.let_run(0.4)  # a repeat would come now
    assert flow.stop() == [0]
    assert written(server) == N_DOCUMENTS
    assert (
        QdrantClient(url=server.url, check_compatibility=False).count(COLLECTION).count
        == N_DOCUMENTS
    )


def test_all_processes_of_a_cluster_drain_when_all_are_told(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    produce(brokers, TOPIC, documents(N_DOCUMENTS))
    flow.start(addresses=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
    flow.wait_for(lambda: written(server) >= 100)
    assert flow.stop() == [0, 0]
    flow.start()
    flow.wait_for(lambda: written(server) >= N_DOCUMENTS)
    assert flow.stop() == [0]
    assert written(server) == N_DOCUMENTS


def test_a_stop_before_anything_is_read_is_clean(flow: Deployment, server: RunningQdrant) -> None:
    server.kill()
    flow.start()
    flow.wait_for(lambda: "not there yet" in flow.log())
    assert flow.stop() == [0]


def test_an_idle_flow_stops_at_once(flow: Deployment) -> None:
    flow.start()
    flow.wait_for(lambda: "Made collection" in flow.log())
    flow.let_run(0.5)
    assert flow.stop(within_s=10) == [0]


def test_a_stop_in_an_outage_gives_up_after_its_time_and_loses_nothing(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    flow.environment["STREAM_DRAIN_S"] = "2"
    produce(brokers, TOPIC, documents(N_DOCUMENTS))
    flow.start()
    flow.wait_for(lambda: written(server) >= 50)
    server.faults("status", status=503, count=None, routes="upsert")
    flow.wait_for(lambda: "again in" in flow.log())
    assert flow.stop() == [1]
    assert "drain" in flow.log() or "503" in flow.log()

    server.clear()
    flow.start()
    client = QdrantClient(url=server.url, check_compatibility=False)
    flow.wait_for(lambda: client.count(COLLECTION).count == N_DOCUMENTS)
    assert flow.stop() == [0]


def test_a_server_that_is_away_for_a_while_costs_nothing_but_time(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    produce(brokers, TOPIC, documents(N_DOCUMENTS))
    flow.start()
    flow.wait_for(lambda: written(server) >= 50)
    server.kill()
    flow.wait_for(lambda: "again in" in flow.log())
    server.start()
    client = QdrantClient(url=server.url, check_compatibility=False)
    flow.wait_for(lambda: client.count(COLLECTION).count == N_DOCUMENTS)
    assert flow.stop() == [0]
    assert not (flow.folder / "dead_letters.jsonl").read_text()
