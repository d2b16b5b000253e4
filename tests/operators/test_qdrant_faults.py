"""A point that the server fails at is set aside alone; while the server fails at all, none is."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from operators import (
    STOP,
    BrokenFlowError,
    DeadLetterFile,
    Part,
    Points,
    QdrantSink,
    Server,
    Writing,
)
from operators.metrics import FAILURES, POINTS_WRITTEN
from operators.qdrant import prepare
from operators.qdrant.stored import stored_point
from tests.operators.qdrant_things import (
    DIM,
    HYBRID,
    collection,
    over_rest,
    parts,
    point,
    point_with,
    points,
    put,
    stored,
    stored_parts,
    storing,
    words,
)
from tests.operators.things import EntryPoint
from tests.servers import RunningQdrant

POISON = "a text that the server fails at"
PANIC = "Service internal error: task 7 panicked"
OVER_CAPACITY = (
    "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter capacity, "
    "please try to split your request"
)


def dead(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def mixed(n_points: int, *bad: int) -> Points:
    return tuple(point(n, n, text=POISON if n in bad else "good") for n in range(n_points))


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("bad", [{3}, {0}, {19}, {3, 4, 17}])
def test_a_point_that_gets_500_each_time_is_set_aside_and_its_neighbours_are_stored(
    qdrant: RunningQdrant,
    remote: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    bad: set[int],
) -> None:
    where, letters = collection(), tmp_path / "dead.jsonl"
    prepare(remote, where)
    written, failed = POINTS_WRITTEN._value.get(), FAILURES.labels("qdrant")._value.get()
    qdrant.faults("status", status=500, count=None, routes="upsert", about=POISON, message=PANIC)
    with caplog.at_level(logging.WARNING):
        put(remote, where, [mixed(20, *bad)], refused=DeadLetterFile(letters))
    assert set(stored(remote, where)) == set(range(20)) - bad
    told = dead(letters)
    assert {line["offset"] for line in told} == bad
    assert all(PANIC in line["reason"] and line["stage"] == "qdrant" for line in told)
    for n in bad:
        assert any(f"point {n} (docs/0 offset {n}, key b'k')" in line for line in caplog.messages)
    assert POINTS_WRITTEN._value.get() - written == 20 - len(bad)
    assert FAILURES.labels("qdrant")._value.get() - failed == len(bad)


@pytest.mark.usefixtures("naps")
def test_a_flow_gets_past_points_that_get_500_each_time(
    qdrant: RunningQdrant, remote: Server, tmp_path: Path, entry_point: EntryPoint
) -> None:
    where, letters = collection(), tmp_path / "dead.jsonl"
    prepare(remote, where)
    qdrant.faults("status", status=500, count=None, routes="upsert", about=POISON)
    batches = [(point(n, n, text=POISON if n == 5 else "good"),) for n in range(8)]
    sink = QdrantSink(remote, where, Writing(attempts=2), refused=DeadLetterFile(letters))
    entry_point(storing(sink, batches))
    assert set(stored(remote, where)) == set(range(8)) - {5}
    assert [line["offset"] for line in dead(letters)] == [5]


@pytest.mark.parametrize("n_failures", [4, 30, 90])
def test_while_the_server_fails_at_all_nothing_is_set_aside(
    qdrant: RunningQdrant, remote: Server, tmp_path: Path, naps: list[float], n_failures: int
) -> None:
    where, letters = collection(), tmp_path / "dead.jsonl"
    prepare(remote, where)
    put(remote, where, [points(range(3))])
    qdrant.faults("status", status=500, count=n_failures, routes="upsert")
    put(remote, where, [points(range(10, 30))], refused=DeadLetterFile(letters))
    assert set(stored(remote, where)) == {*range(3), *range(10, 30)}
    assert dead(letters) == []
    assert len(naps) == n_failures


@pytest.mark.usefixtures("naps")
def test_a_point_alone_that_gets_500_where_nothing_else_was_written_waits(
    qdrant: RunningQdrant, remote: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, letters = collection(), tmp_path / "dead.jsonl"
    prepare(remote, where)
    qdrant.faults("status", status=500, count=None, routes="upsert")
    slept: list[float] = []

    def nap(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 40:
            STOP.drain_s = 0.0
            STOP.request()

    monkeypatch.setattr("operators.qdrant.sink._nap", nap)
    with pytest.raises(BrokenFlowError, match="has not taken 1 points"):
        put(remote, where, [(point(1),)], refused=DeadLetterFile(letters))
    assert dead(letters) == []


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("kind", ["whole", "parts"])
def test_a_point_alone_that_gets_500_is_told_by_what_an_earlier_run_has_written(
    qdrant: RunningQdrant, remote: Server, tmp_path: Path, kind: str
) -> None:
    where, letters = collection(**HYBRID), tmp_path / "dead.jsonl"
    late = np.arange(2 * DIM).reshape(2, DIM).astype(np.float32)
    told: dict[str, Any] = {"dense": np.ones(DIM, np.float32), "words": words(w3=0.5), "late": late}
    numbers = range(3) if kind == "parts" else [None]
    before = tuple(
        point_with(
            "good",
            4,
            part=None if n is None else Part(number=n, count=3, start=n, end=n + 1),
            source="other-topic",
            **told,
        )
        for n in numbers
    )
    bad = replace(point_with("bad", 7, **told), payload={"text": POISON})
    put(remote, where, [before])
    stored_before = stored(remote, where)
    qdrant.faults("status", status=500, count=None, routes="upsert", about=POISON)
    put(remote, where, [(bad,)], refused=DeadLetterFile(letters))
    assert [line["offset"] for line in dead(letters)] == [7]
    assert stored(remote, where) == stored_before


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("retry_after", [None, 1])
def test_a_request_over_the_rate_limits_capacity_is_split_until_it_fits(
    qdrant: RunningQdrant,
    remote: Server,
    tmp_path: Path,
    naps: list[float],
    retry_after: int | None,
) -> None:
    where, letters = collection(), tmp_path / "dead.jsonl"
    prepare(remote, where)
    too_many = {"status": 429, "count": None, "routes": "upsert", "message": OVER_CAPACITY}
    qdrant.faults("status", **too_many, more_than=3, retry_after=retry_after)
    qdrant.faults("status", **too_many, about=POISON, retry_after=retry_after)
    qdrant.forget()  # what a test before may have sent late
    put(remote, where, [mixed(20, 7)], refused=DeadLetterFile(letters))
    assert set(stored(remote, where)) == set(range(20)) - {7}
    assert max(qdrant.stats()["points_per_upsert"]) <= 3
    [letter] = dead(letters)
    assert letter["offset"] == 7
    assert "larger than rate limiter capacity" in letter["reason"]
    assert naps == []


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("kind", ["reset", "delay"])
def test_a_request_that_breaks_or_outlasts_its_time_is_split(
    qdrant: RunningQdrant, kind: str
) -> None:
    server = over_rest(qdrant, timeout_s=1)
    where = collection()
    prepare(server, where)
    qdrant.faults(kind, count=None, seconds=1.2, routes="upsert", more_than=3)
    put(server, where, [points(range(8))], Writing(attempts=1))
    qdrant.clear()
    assert set(stored(server, where)) == set(range(8))
    server.close()


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("route", ["scroll", "delete"])
def test_a_document_whose_stale_parts_get_500_is_told_and_the_others_are_settled(
    qdrant: RunningQdrant, remote: Server, tmp_path: Path, route: str
) -> None:
    where, letters = collection(), tmp_path / "dead.jsonl"
    keys = [f"document-{n}" for n in range(5)]
    put(remote, where, [tuple(one for key in keys for one in parts(key, 1, 3))])
    newer = tuple(one for key in keys for one in parts(key, 2, 1))
    bad = newer[3].document
    qdrant.faults("status", status=500, count=None, routes=route, about=bad, message=PANIC)
    put(remote, where, [newer], refused=DeadLetterFile(letters))
    kept = stored_parts(remote, where)
    assert kept.pop(bad) == [(1, 1), (1, 2), (2, 0)]
    assert all(some == [(2, 0)] for some in kept.values())
    [letter] = dead(letters)
    assert letter["offset"] == 2
    assert "stale parts are still there" in letter["reason"]
    assert PANIC in letter["reason"]


@pytest.mark.usefixtures("naps")
def test_a_part_that_is_written_again_to_see_whether_the_server_works_does_not_come_back(
    qdrant: RunningQdrant, remote: Server, tmp_path: Path
) -> None:
    where = collection()
    sink = QdrantSink(remote, where, refused=DeadLetterFile(tmp_path / "dead.jsonl"))
    sink.list_parts()
    part = sink.build_part("flow.qdrant", "00", None)
    part.write_batch([parts("a", 2, 1)])
    part.snapshot()
    part.write_batch([parts("a", 1, 3)])  # older: its last part is what passed last
    part.snapshot()
    qdrant.faults("status", status=500, count=None, routes="upsert", about=POISON)
    part.write_batch([(point(7, text=POISON),)])
    part.snapshot()
    part.close()
    assert list(stored_parts(remote, where).values()) == [[(2, 0)]]
    assert len(dead(tmp_path / "dead.jsonl")) == 1


@pytest.mark.parametrize("log", ["", "Zm9v", "ab/cd", "a/1@b", "x/0"])
def test_what_was_stored_before_is_found_whatever_the_name_of_its_log(
    remote: Server, log: str
) -> None:
    where = collection()
    prepare(remote, where)
    one = point(1, 7)
    origin = replace(one.origin, log=log)
    stamp = {**cast("dict[str, object]", one.payload["_stream"]), "source": origin.source}
    put(remote, where, [(replace(one, origin=origin, payload={**one.payload, "_stream": stamp}),)])
    found = stored_point(remote.client(), where.name, [point(2, 8)])
    assert found is not None
    there = found.origin
    assert (there.topic, there.partition, there.log, there.offset) == ("docs", 0, log, 7)
