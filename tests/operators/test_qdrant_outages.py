"""An outage is waited out, a bad point is set aside, and a hopeless request ends the flow."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bytewax.outputs import StatefulSinkPartition
from qdrant_client import models

from operators import (
    STOP,
    BrokenFlowError,
    Collection,
    DeadLetterFile,
    Points,
    QdrantSink,
    Server,
    Writing,
    outages,
)
from operators.metrics import FAILURES, POINTS_WRITTEN, RETRIES
from operators.qdrant import prepare
from tests.operators.qdrant_things import (
    collection,
    offsets,
    over_grpc,
    over_rest,
    point,
    points,
    put,
    stored,
    storing,
)
from tests.operators.things import EntryPoint, wait_until
from tests.servers import RunningQdrant, running_qdrant


def retried_more_than(times: float) -> bool:
    return float(RETRIES.labels("qdrant")._value.get()) > times


def dead(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_a_busy_or_broken_server_is_asked_again(
    qdrant: RunningQdrant, remote: Server, naps: list[float], status: int
) -> None:
    where = collection()
    prepare(remote, where)
    before = RETRIES.labels("qdrant")._value.get()
    qdrant.faults("status", status=status, count=3, routes="upsert")
    put(remote, where, [points(range(5))])
    assert len(naps) == 3
    assert len(stored(remote, where)) == 5
    assert RETRIES.labels("qdrant")._value.get() - before == 3


def test_the_wait_that_a_server_asks_for_is_kept(
    qdrant: RunningQdrant, remote: Server, naps: list[float]
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("status", status=429, retry_after=7, count=2, routes="upsert")
    put(remote, where, [points(range(5))])
    assert naps == [7, 7]


@pytest.mark.parametrize(
    ("asked", "longest"),
    [
        *(("Wed, 21 Oct 2026 07:28:00 GMT", 30), ("0.5", 30), (0, 0.5), (86_400, 300)),
        *(("²", 1), ("٣", 1), ("-5", 1), ("soon", 1)),
    ],
)
def test_a_wait_that_nobody_can_keep_is_neither_a_storm_nor_a_sleep(
    qdrant: RunningQdrant, naps: list[float], asked: int | str, longest: float
) -> None:
    where, server = collection(), over_rest(qdrant)
    prepare(server, where)
    qdrant.faults("status", status=429, retry_after=asked, count=2, routes="upsert")
    put(server, where, [points(range(5))])
    assert len(stored(server, where)) == 5
    assert len(naps) == 2
    assert max(naps) <= longest
    if isinstance(asked, int):
        assert min(naps) == longest


@pytest.mark.parametrize("kind", ["reset", "reset_after"])
def test_a_broken_connection_repeats_the_request_and_harms_nothing(
    qdrant: RunningQdrant, remote: Server, naps: list[float], kind: str
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults(kind, count=2, routes="upsert")
    put(remote, where, [points(range(5), offset=3)], Writing(in_flight=1))
    assert len(naps) == 2
    assert offsets(remote, where) == dict.fromkeys(range(5), 3)


def test_a_slow_answer_is_asked_for_again(qdrant: RunningQdrant, naps: list[float]) -> None:
    for server in (over_rest(qdrant, timeout_s=1), over_grpc(qdrant, timeout_s=1)):
        where = collection()
        prepare(server, where)
        naps.clear()
        qdrant.faults("delay", seconds=1.3, routes="upsert")
        put(server, where, [points(range(3))])
        assert len(naps) == 1
        assert len(stored(server, where)) == 3
        server.close()


def test_an_outage_holds_a_flow_back_and_loses_nothing(
    qdrant: RunningQdrant, remote: Server, naps: list[float], entry_point: EntryPoint
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("status", status=503, count=5, routes="upsert")
    batches = [points(range(10 * n, 10 * n + 10)) for n in range(4)]
    entry_point(storing(QdrantSink(remote, where, Writing(max_points=3)), batches))
    assert sorted(stored(remote, where)) == list(range(40))
    assert len(naps) == 5


def test_a_server_that_is_down_at_the_start_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running_qdrant() as down:
        down.kill()
        sleeps = iter([lambda: None, down.start])
        monkeypatch.setattr(outages, "_sleep_unless_stopped", lambda _: next(sleeps)())
        server, where = over_rest(down), collection()
        with caplog.at_level(logging.WARNING, "operators.outages"):
            put(server, where, [points(range(3))])
        assert len(stored(server, where)) == 3
        server.close()
    assert [line for line in caplog.messages if f"Qdrant {down.url}: not there yet" in line]


def test_a_server_that_dies_and_comes_back_has_all_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.qdrant.sink._nap", lambda _: STOP.wait(0.02))
    with running_qdrant(tmp_path / "data") as server:
        for client in (over_rest(server), over_grpc(server)):
            where = collection()
            put(client, where, [points(range(50))])
            sink = QdrantSink(client, where, Writing(max_points=10))
            sink.list_parts()
            part = sink.build_part("qdrant", "00", None)
            server.kill()
            before = RETRIES.labels("qdrant")._value.get()
            part.write_batch([points(range(40, 70), offset=1)])
            wait_until(partial(retried_more_than, before + 3))
            server.start()
            part.write_batch([points(range(70, 100), offset=1)])
            part.snapshot()
            assert sorted(stored(client, where)) == list(range(100))
            client.close()


def test_a_point_that_is_refused_is_set_aside_alone(
    store_at: Server, tmp_path: Path, entry_point: EntryPoint
) -> None:
    where = collection()
    letters = DeadLetterFile(tmp_path / "letters" / "dead.jsonl")
    guilty = {3, 11, 12}
    batch = tuple(point(n, n, dim=5 if n in guilty else 4) for n in range(20))
    entry_point(storing(QdrantSink(store_at, where, refused=letters), [batch]))
    assert set(stored(store_at, where)) == set(range(20)) - guilty
    told = dead(tmp_path / "letters" / "dead.jsonl")
    assert {line["offset"] for line in told} == guilty
    assert len(told) == 3
    assert {line["stage"] for line in told} == {"qdrant"}
    assert all(line["reason"] for line in told)


def test_points_and_refusals_are_counted(rest: Server, tmp_path: Path) -> None:
    where = collection()
    written, refused = POINTS_WRITTEN._value.get(), FAILURES.labels("qdrant")._value.get()
    letters = DeadLetterFile(tmp_path / "dead.jsonl")
    put(rest, where, [tuple(point(n, dim=4 + (n == 2)) for n in range(5))], refused=letters)
    assert POINTS_WRITTEN._value.get() - written == 4
    assert FAILURES.labels("qdrant")._value.get() - refused == 1


def test_without_a_place_for_refused_points_one_ends_the_flow_and_the_step_is_named(
    store_at: Server,
) -> None:
    where = collection()
    with pytest.raises(BrokenFlowError, match=r"Step flow\.qdrant: Qdrant refused a point: "):
        put(store_at, where, [(point(1), point(2, dim=5))])


def test_a_refused_point_ends_any_flow(rest: Server, entry_point: EntryPoint) -> None:
    with pytest.raises((BrokenFlowError, RuntimeError)):
        entry_point(storing(QdrantSink(rest, collection()), [(point(2, dim=5),)]))


def opened(server: Server, where: Collection, letters: Path) -> StatefulSinkPartition[Points, str]:
    sink = QdrantSink(server, where, refused=DeadLetterFile(letters))
    sink.list_parts()
    return sink.build_part("flow.qdrant", "00", None)


def test_points_that_only_a_remade_collection_refuses_are_no_dead_letters(
    store_at: Server, tmp_path: Path
) -> None:
    where = collection()
    part = opened(store_at, where, tmp_path / "dead.jsonl")
    client = store_at.client()
    client.delete_collection(where.name)
    size = models.VectorParams(size=7, distance=models.Distance.DOT)
    client.create_collection(where.name, {"dense": size})
    part.write_batch([points(range(4))])
    with pytest.raises(BrokenFlowError, match="is not what this flow writes: 'dense' has 7 dim"):
        part.snapshot()
    part.close()
    assert dead(tmp_path / "dead.jsonl") == []


def test_points_for_a_collection_that_is_gone_are_no_dead_letters(
    store_at: Server, tmp_path: Path
) -> None:
    where = collection()
    part = opened(store_at, where, tmp_path / "dead.jsonl")
    store_at.client().delete_collection(where.name)
    part.write_batch([points(range(4)), (point(9),)])
    with pytest.raises(BrokenFlowError, match=r"is gone|[Nn]ot found|doesn't exist"):
        part.snapshot()
    part.close()
    assert dead(tmp_path / "dead.jsonl") == []


def test_points_that_are_all_wrong_for_the_right_collection_are_dead_letters(
    store_at: Server, tmp_path: Path
) -> None:
    part = opened(store_at, collection(), tmp_path / "dead.jsonl")
    part.write_batch([points(range(4), dim=5)])
    part.snapshot()
    part.close()
    assert len(dead(tmp_path / "dead.jsonl")) == 4


def test_a_request_that_is_too_large_is_split_until_it_fits(tmp_path: Path) -> None:
    with running_qdrant(max_body_bytes=20_000) as small:
        server, where = over_rest(small), collection()
        letters = DeadLetterFile(tmp_path / "dead.jsonl")
        batch = (*points(range(30), text="x" * 3_000), point(30, 9, text="x" * 30_000))
        put(server, where, [batch], refused=letters)
        assert sorted(stored(server, where)) == list(range(30))
        assert max(small.stats()["points_per_upsert"]) <= 6
        server.close()
    assert [line["offset"] for line in dead(tmp_path / "dead.jsonl")] == [9]


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_wrong_api_key_ends_the_flow_and_says_so() -> None:
    with running_qdrant(api_key="right") as guarded:
        for door in (over_rest, over_grpc):
            wrong = door(guarded, api_key="wrong")
            with pytest.raises(Exception, match=r"401|API key|UNAUTHENTICATED"):
                prepare(wrong, collection())
            wrong.close()
        right = over_rest(guarded, api_key="right")
        where = collection()
        put(right, where, [points(range(3))])
        assert len(stored(right, where)) == 3
        right.close()


def test_an_outage_that_outlasts_the_time_to_drain_fails_the_snapshot(
    qdrant: RunningQdrant, remote: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("status", status=503, count=None, routes="upsert")
    monkeypatch.setattr(STOP, "drain_s", 0.1)
    sink = QdrantSink(remote, where)
    sink.list_parts()
    part = sink.build_part("flow.qdrant", "00", None)
    part.write_batch([points(range(3))])
    STOP.request()
    with pytest.raises(BrokenFlowError, match=r"Step flow\.qdrant: "):
        part.snapshot()
    part.close()


def test_a_request_to_stop_ends_a_long_wait_for_the_server(
    qdrant: RunningQdrant, remote: Server
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("status", status=429, retry_after=60, routes="upsert")
    sink = QdrantSink(remote, where)
    sink.list_parts()
    part = sink.build_part("flow.qdrant", "00", None)
    part.write_batch([points(range(3))])
    wait_until(lambda: qdrant.struck().get("status"))
    STOP.request()
    part.snapshot()
    assert len(stored(remote, where)) == 3
    part.close()


FAILING = """
from bytewax.testing import run_main
from operators import QdrantSink, Server
from tests.operators.qdrant_things import collection, points, storing

class Failing(QdrantSink):
    def build_part(self, *told):
        part = super().build_part(*told)
        def snapshot():
            raise RuntimeError("something else is broken")
        part.snapshot = snapshot
        return part

run_main(storing(Failing(Server(url="{url}"), collection()), [points(range(3))]))
"""


def test_a_flow_that_has_failed_does_not_wait_for_the_server(qdrant: RunningQdrant) -> None:
    qdrant.faults("status", status=503, count=None, routes="upsert")
    ended = subprocess.run(
        [sys.executable, "-c", FAILING.format(url=qdrant.url)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "something else is broken" in ended.stderr
