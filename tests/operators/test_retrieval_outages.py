"""A batch is few requests; a server that is away is waited for, one that refuses is not."""

from __future__ import annotations

from typing import Any

import pytest

from operators import (
    STOP,
    Batch,
    BrokenFlowError,
    Record,
    Server,
)
from operators.retrieval import (
    Nearest,
)
from operators.retrieval.reader import Asking
from operators.stages import apply
from tests.operators.qdrant_things import over_rest
from tests.operators.retrieval_things import (
    DIM,
    FEW,
    MEMORY,
    asked,
    collection,
    fill,
    found,
    query,
    stage_of,
    thing,
)
from tests.servers import RunningQdrant


def test_a_batch_is_few_requests_and_several_of_them_at_once(qdrant: RunningQdrant) -> None:
    server = over_rest(qdrant)
    where = fill(server, collection(), FEW)
    stage = stage_of(where, Nearest(), server, asking=Asking(max_queries=4))
    stage.open()
    qdrant.forget()
    qdrant.faults("delay", seconds=0.2, count=None, routes="query_batch")
    queries = [query(thing(x), x) for x in range(1, 11)]
    batch = asked(stage, *queries)
    assert [record.key for record in batch.records] == [record.key for record in queries]
    assert found(batch) == [found_by_memory(one) for one in queries]
    stats = qdrant.stats()
    assert stats["requests"]["query_batch"] == 3
    assert stats["max_concurrent"] == 3
    server.close()


def found_by_memory(one: Record) -> list[Any]:
    where = fill(MEMORY, collection(), FEW)
    return found(asked(stage_of(where, Nearest()), one))[0]


def test_a_request_stays_under_its_bytes(qdrant: RunningQdrant) -> None:
    server = over_rest(qdrant)
    stage = stage_of(
        fill(server, collection(), FEW), Nearest(), server, asking=Asking(max_bytes=2 * 22 * DIM)
    )
    stage.open()
    qdrant.forget()
    assert len(found(asked(stage, *(query(thing(1), n) for n in range(5))))) == 5
    assert qdrant.stats()["requests"]["query_batch"] == 3
    server.close()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that retries would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("operators.retrieval.reader._nap", slept.append)
    return slept


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "reset"}])
def test_an_outage_is_waited_out(
    remote: Server, qdrant: RunningQdrant, naps: list[float], fault: dict[str, Any]
) -> None:
    stage = stage_of(fill(remote, collection(), FEW), Nearest(), remote)
    stage.open()
    qdrant.faults(**fault, count=6, routes="query_batch")
    done = apply(stage, Batch(records=(query(thing(1)),)))
    assert (found(done), done.failures) == ([[1, 2, 3]], ())
    assert len(naps) == 6


def test_a_server_that_is_busy_is_left_alone_as_long_as_it_asks(
    remote: Server, qdrant: RunningQdrant, naps: list[float]
) -> None:
    stage = stage_of(fill(remote, collection(), FEW), Nearest(), remote)
    stage.open()
    qdrant.faults("status", status=429, retry_after=7, count=2, routes="query_batch")
    assert found(asked(stage, query(thing(1)))) == [[1, 2, 3]]
    assert naps == [7.0, 7.0]


@pytest.mark.usefixtures("naps")
def test_a_stop_ends_the_wait_and_keeps_the_queries(rest: Server, qdrant: RunningQdrant) -> None:
    stage = stage_of(fill(rest, collection(), FEW), Nearest(), rest)
    stage.open()
    qdrant.faults("status", status=503, count=None, routes="query_batch")
    STOP.drain_s = 0
    STOP.request()
    with pytest.raises(BrokenFlowError, match="has not answered 1 queries"):
        apply(stage, Batch(records=(query(thing(1)),)))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_every_query_ends_the_flow(
    remote: Server, qdrant: RunningQdrant, status: int
) -> None:
    stage = stage_of(fill(remote, collection(), FEW), Nearest(), remote)
    stage.open()
    qdrant.faults("status", status=status, count=1, routes="query_batch")
    with pytest.raises(BrokenFlowError, match="refuses all queries"):
        apply(stage, Batch(records=(query(thing(1)),)))


def about(number: int) -> dict[str, Any]:
    """Make a filter that lets all through, and that the server can be told to fail at."""
    return {"must_not": [{"key": "title", "match": {"value": f"question {number}"}}]}


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("fault", ["status", "capacity"])
def test_a_question_that_the_server_fails_at_each_time_fails_alone(
    remote: Server, qdrant: RunningQdrant, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    stage = stage_of(fill(remote, collection(), FEW), Nearest(), remote)
    stage.open()
    told = "request larger than rate limiter capacity" if fault == "capacity" else "a panic"
    qdrant.faults(
        "status",
        status=429 if fault == "capacity" else 500,
        message=told,
        count=None,
        routes="query_batch",
        about="question 3",
    )
    queries = [query(thing(1), n, filter=about(n)) for n in range(6)]
    batch = asked(stage, *queries)
    assert [record.key for record in batch.records] == ["q0", "q1", "q2", "q4", "q5"]
    assert found(batch) == [[1, 2, 3]] * 5
    [failure] = batch.failures
    assert (failure.origin.offset, failure.stage) == (3, "retrieve dense")
    assert told in failure.reason
    if fault == "status":
        assert any("fails at query docs/0 offset 3, key b'q3'" in line for line in caplog.messages)


def test_while_the_server_fails_at_all_questions_none_fails(
    remote: Server, qdrant: RunningQdrant, naps: list[float]
) -> None:
    stage = stage_of(fill(remote, collection(), FEW), Nearest(), remote)
    asked(stage, query(thing(1)))
    qdrant.faults("status", status=500, count=40, routes="query_batch")
    batch = asked(stage, *(query(thing(1), n) for n in range(6)))
    assert (found(batch), batch.failures) == ([[1, 2, 3]] * 6, ())
    assert len(naps) == 40


@pytest.mark.parametrize("asks_for", ["86400", 0, "٣", "²", "soon", "-5"])
def test_a_wait_that_nobody_can_keep_is_bounded_for_questions_too(
    rest: Server, qdrant: RunningQdrant, naps: list[float], asks_for: str | int
) -> None:
    stage = stage_of(fill(rest, collection(), FEW), Nearest(), rest)
    stage.open()
    qdrant.faults("status", status=429, retry_after=asks_for, count=2, routes="query_batch")
    assert found(asked(stage, query(thing(1)))) == [[1, 2, 3]]
    longest = {"86400": 300.0, 0: 0.5}.get(asks_for, 1.0)
    assert len(naps) == 2
    assert max(naps) <= longest
    if isinstance(asks_for, int) or asks_for == "86400":
        assert min(naps) == longest
