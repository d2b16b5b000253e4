"""The test server fails as a real one would, when a test asks it to."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from tests.servers.things import NAME, connected, create, numbers, point

if TYPE_CHECKING:
    from collections.abc import Callable

    from qdrant_client import QdrantClient

    from tests.servers import RunningQdrant


@pytest.mark.parametrize("status", [400, 500, 503, 507])
def test_a_refusal_strikes_as_often_as_it_was_armed(
    server: RunningQdrant, rest: QdrantClient, status: int
) -> None:
    server.faults("status", status=status, count=2, routes="upsert")
    for _ in range(2):
        with pytest.raises(UnexpectedResponse) as refused:
            rest.upsert(NAME, [point(1)])
        assert refused.value.status_code == status
        assert rest.count(NAME).count == 0
    rest.upsert(NAME, [point(1)])
    assert rest.count(NAME).count == 1


def test_a_refusal_without_a_count_lasts_until_cleared(
    server: RunningQdrant, rest: QdrantClient
) -> None:
    server.faults("status", status=503, count=None, routes="points")
    for _ in range(3):
        with pytest.raises(UnexpectedResponse):
            rest.count(NAME)
    assert rest.collection_exists(NAME)
    server.clear()
    assert rest.count(NAME).count == 0


def test_too_many_requests_say_when_to_come_back(
    server: RunningQdrant, client: QdrantClient
) -> None:
    create(client)
    server.faults("status", status=429, retry_after=7, routes="points")
    with pytest.raises(ResourceExhaustedResponse) as refused:
        client.upsert(NAME, [point(1)])
    assert refused.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("status", "code"), [(429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (503, "UNAVAILABLE")]
)
def test_a_refused_call_has_the_code_of_its_status(
    server: RunningQdrant, over_grpc: QdrantClient, status: int, code: str
) -> None:
    server.faults("status", status=status)
    with pytest.raises(grpc.RpcError) as refused:
        over_grpc.upsert(NAME, [point(1)])
    assert refused.value.code() == grpc.StatusCode[code]


def test_a_refusal_may_be_about_one_text_or_a_number_of_points(
    server: RunningQdrant, client: QdrantClient
) -> None:
    create(client)
    server.faults("status", status=500, count=None, routes="upsert", about="number 2", message="ow")
    client.upsert(NAME, [point(1), point(3)])
    with pytest.raises((UnexpectedResponse, grpc.RpcError), match="ow"):
        client.upsert(NAME, [point(1), point(2)])
    server.clear()
    server.faults("status", status=413, count=None, routes="upsert", more_than=2)
    client.upsert(NAME, [point(4), point(5)])
    with pytest.raises((UnexpectedResponse, grpc.RpcError)):
        client.upsert(NAME, [point(6), point(7), point(8)])
    assert numbers(client) == [1, 3, 4, 5]


def test_a_slow_answer_outlasts_an_impatient_client(
    server: RunningQdrant, rest: QdrantClient
) -> None:
    server.faults("delay", seconds=1.5, routes="upsert")
    with connected(server, timeout=1) as impatient, pytest.raises(ResponseHandlingException) as e:
        impatient.upsert(NAME, [point(1)])
    assert isinstance(e.value.source, httpx.TimeoutException)
    wait_until(lambda: rest.count(NAME).count == 1)


def test_a_slow_call_runs_out_of_time(server: RunningQdrant, over_grpc: QdrantClient) -> None:
    server.faults("delay", seconds=1.5, routes="upsert")
    with connected(server, prefer_grpc=True, timeout=1) as hasty, pytest.raises(grpc.RpcError) as e:
        hasty.upsert(NAME, [point(1)])
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: over_grpc.count(NAME).count == 1)


@pytest.mark.parametrize(("kind", "n_written"), [("reset", 0), ("reset_after", 1)])
@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_reset_comes_before_the_write_or_after_it(
    server: RunningQdrant, rest: QdrantClient, kind: str, n_written: int, *, keep_alive: bool
) -> None:
    limits = httpx.Limits(max_keepalive_connections=1 if keep_alive else 0)
    with connected(server, limits=limits) as client:
        client.count(NAME)
        server.faults(kind, routes="upsert")
        with pytest.raises(ResponseHandlingException) as broken:
            client.upsert(NAME, [point(1)])
        assert isinstance(broken.value.source, httpx.ReadError)
        assert client.count(NAME).count == n_written
    assert server.struck()[kind] >= 1
    assert numbers(rest) == [1][:n_written]


@pytest.mark.parametrize(("kind", "n_written"), [("reset", 0), ("reset_after", 1)])
def test_a_reset_call_is_unavailable(
    server: RunningQdrant, over_grpc: QdrantClient, kind: str, n_written: int
) -> None:
    server.faults(kind, routes="upsert")
    with pytest.raises(grpc.RpcError) as broken:
        over_grpc.upsert(NAME, [point(1)])
    assert broken.value.code() == grpc.StatusCode.UNAVAILABLE
    assert over_grpc.count(NAME).count == n_written


def test_a_fault_that_does_not_exist_cannot_be_armed(server: RunningQdrant) -> None:
    assert httpx.post(f"{server.url}/_faults", json={"kind": "fire"}).status_code == 400
    assert httpx.post(f"{server.url}/_faults", json={"kind": "reset", "a": 1}).status_code == 400


def test_the_server_tells_what_came_in(server: RunningQdrant, client: QdrantClient) -> None:
    create(client)
    server.forget()
    server.faults("delay", seconds=0.3, count=2, routes="upsert")
    writers = [
        threading.Thread(target=client.upsert, args=(NAME, [point(n), point(n + 10)]))
        for n in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stats = server.stats()
    assert (stats["upserts"], stats["points_per_upsert"]) == (2, [2, 2])
    assert stats["requests"] == {"upsert": 2}
    assert stats["max_concurrent"] == 2
    assert stats["largest_body_bytes"] > 100


def wait_until(is_true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Ask the server, which is another process, until it has come as far."""
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.02)
