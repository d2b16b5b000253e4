"""Of a document in parts one version alone stays, whatever crashes, repeats or overtakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import (
    STOP,
    BrokenFlowError,
    Collection,
    DeadLetterFile,
    Points,
    QdrantSink,
    Server,
    Writing,
)
from operators.qdrant import parts as parts_module
from operators.qdrant import prepare
from operators.qdrant.parts import Version, settle
from tests.operators.qdrant_things import (
    collection,
    over_grpc,
    over_rest,
    parts,
    point_with,
    put,
    stored,
    stored_parts,
)
from tests.operators.things import NO_TIME, Crash, CrashError, EntryPoint, Lists, wait_until
from tests.servers import RunningQdrant

ONE = np.ones(4, np.float32)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else adopts a collection of a test."""
    monkeypatch.setattr("operators.qdrant.collection._SETTLE_S", 0)


def version(offset: int, count: int) -> list[tuple[int, int]]:
    return [(offset, number) for number in range(count)]


def test_a_document_that_shrinks_leaves_no_part_behind(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [(*parts(1, 0, 4), *parts(2, 1, 3))])
    assert stored_parts(store_at, where) == {"1": version(0, 4), "2": version(1, 3)}
    put(store_at, where, [parts(1, 2, 2)])
    assert stored_parts(store_at, where) == {"1": version(2, 2), "2": version(1, 3)}
    put(store_at, where, [parts(1, 3, 1)])
    assert stored_parts(store_at, where) == {"1": version(3, 1), "2": version(1, 3)}
    put(store_at, where, [parts(1, 4, 5)])
    assert stored_parts(store_at, where) == {"1": version(4, 5), "2": version(1, 3)}


def test_a_document_that_was_stored_whole_leaves_no_whole_one_behind(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [(point_with("k", 1, dense=ONE), point_with(7, 2, dense=ONE))])
    put(store_at, where, [(*parts("k", 3, 3), *parts(7, 4, 2))])
    assert sorted(stored_parts(store_at, where).values()) == [version(3, 3), version(4, 2)]


def test_a_document_that_is_split_otherwise_keeps_only_the_new_parts(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [parts(1, 5, 6)])
    put(store_at, where, [parts(1, 5, 2)])  # the same message, another length of parts
    assert stored_parts(store_at, where) == {"1": version(5, 2)}


def test_an_older_version_that_is_replayed_last_does_not_come_back(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [parts(1, 0, 5)])
    put(store_at, where, [parts(1, 1, 2)])
    before = stored(store_at, where)
    put(store_at, where, [parts(1, 0, 5)])
    assert stored(store_at, where) == before


def test_a_repeat_of_parts_changes_nothing(store_at: Server) -> None:
    where = collection()
    batch = (*parts(1, 0, 3), *parts("k", 1, 2))
    put(store_at, where, [batch])
    before = stored(store_at, where)
    put(store_at, where, [batch, batch])
    assert stored(store_at, where) == before


def test_of_two_versions_in_a_batch_the_newer_is_sent_alone(
    qdrant: RunningQdrant, rest: Server
) -> None:
    where = collection()
    put(rest, where, [(*parts(1, 0, 5), *parts(2, 1, 1), *parts(1, 2, 2))])
    assert stored_parts(rest, where) == {"1": version(2, 2), "2": version(1, 1)}
    assert qdrant.stats()["points_per_upsert"] == [3]
    assert "delete" not in qdrant.stats()["requests"]
    put(rest, where, [(*parts(1, 4, 1), *parts(1, 3, 5))])  # as two topics may be merged
    assert stored_parts(rest, where)["1"] == version(4, 1)


def test_the_parts_of_a_document_may_come_in_several_batches(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [parts(1, 0, 6)])
    new = parts(1, 1, 4)
    put(store_at, where, [new[:1], new[1:3]])
    put(store_at, where, [new[3:]])
    assert stored_parts(store_at, where) == {"1": version(1, 4)}


def test_documents_of_one_key_in_two_topics_do_not_harm_each_other(store_at: Server) -> None:
    where = collection()
    of_one = parts("k", 9, 3)
    other = tuple(
        replace(point, id=n, document="other", payload=with_document(point.payload, "other"))
        for n, point in enumerate(parts("k", 1, 1, source="u"))
    )
    put(store_at, where, [of_one])
    put(store_at, where, [other])
    assert sorted(map(len, stored_parts(store_at, where).values())) == [1, 3]


def with_document(payload: object, name: str) -> dict[str, object]:
    assert isinstance(payload, dict)
    return {**payload, "_stream": {**payload["_stream"], "document": name}}


def test_a_topic_that_was_made_again_takes_a_document_over(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [parts(1, 900, 4, source="old")])
    put(store_at, where, [parts(1, 3, 2, source="new")])
    assert stored_parts(store_at, where) == {"1": version(3, 2)}


def test_of_two_topics_that_write_one_document_the_last_to_arrive_stays_whole(
    qdrant: RunningQdrant, remote: Server
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("delay", seconds=0.4, count=1, routes="upsert")
    sent = [parts(1, 9, 4, source="a"), parts(1, 5, 2, source="b")]
    put(remote, where, sent, Writing(in_flight=1))
    assert stored_parts(remote, where) == {"1": version(5, 2)}
    qdrant.faults("delay", seconds=0.4, count=1, routes="upsert")
    sent = [parts(1, 10, 4, source="a"), parts(1, 6, 2, source="b")]
    put(remote, where, sent, Writing(in_flight=2))  # one of them is overtaken
    assert stored_parts(remote, where)["1"] in (version(10, 4), version(6, 2))


def test_a_newer_version_that_comes_while_parts_are_deleted_stays(
    memory: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = collection()
    put(memory, where, [parts(1, 0, 5)])
    client = memory.client()
    delete = client.delete

    def overtaken(*told: Any, **more: Any) -> object:
        monkeypatch.setattr(client, "delete", delete)
        put(memory, where, [parts(1, 2, 3)])
        return delete(*told, **more)

    monkeypatch.setattr(client, "delete", overtaken)
    settle(client, where.name, {"1": Version(source="t/0", offset=1, count=1)})
    assert stored_parts(memory, where) == {"1": version(2, 3)}


def test_parts_that_belong_to_no_flow_are_left_alone(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [(*parts(2, 0, 3), point_with(5, 1, dense=ONE))])
    put(store_at, where, [parts(1, 2, 1)])
    assert len(stored(store_at, where)) == 5


VERSIONS = (5, 1, 3, 2)
"""Parts of each version of a document, and one more of its neighbour."""


@pytest.fixture(scope="module")
def memory() -> Iterator[Server]:
    server = Server(memory=True)
    yield server
    server.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(range(len(VERSIONS))), min_size=1), min_size=1))
def test_versions_in_any_order_and_number_end_in_the_newest(
    memory: Server, epochs: list[list[int]]
) -> None:
    where = collection()
    for epoch in epochs:
        batches = [
            (*parts(1, number, VERSIONS[number]), *parts("k", number, VERSIONS[number] + 1))
            for number in epoch
        ]
        put(memory, where, batches, Writing(max_points=2))
    newest = max(number for epoch in epochs for number in epoch)
    found = stored_parts(memory, where)
    assert found.pop("1") == version(newest, VERSIONS[newest])
    assert list(found.values()) == [version(newest, VERSIONS[newest] + 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.permutations([(number, part) for number in (0, 1) for part in range(VERSIONS[number])]),
    st.integers(1, 4),
)
def test_parts_of_two_versions_in_any_order_end_in_the_newer(
    memory: Server, order: Sequence[tuple[int, int]], n_epochs: int
) -> None:
    where = collection()
    sent = [(parts(1, number, VERSIONS[number])[part],) for number, part in order]
    for epoch in range(n_epochs):
        put(memory, where, sent[epoch::n_epochs])
    assert stored_parts(memory, where) == {"1": version(1, VERSIONS[1])}


def test_most_often_one_question_is_all_that_parts_cost(
    qdrant: RunningQdrant, remote: Server
) -> None:
    where = collection()
    put(remote, where, [(*parts(1, 0, 2), *parts(2, 1, 3))])
    qdrant.forget()
    put(remote, where, [(*parts(1, 2, 2), *parts(2, 3, 4))])
    requests = qdrant.stats()["requests"]
    assert (requests["scroll"], requests.get("delete")) == (1, None)


def test_documents_that_are_not_split_cost_no_question(
    qdrant: RunningQdrant, remote: Server
) -> None:
    put(remote, collection(), [(point_with(1, dense=ONE),)])
    assert "scroll" not in qdrant.stats()["requests"]


def test_many_documents_are_settled_in_bounded_requests(
    qdrant: RunningQdrant, rest: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "_PAGE", 3)
    where = collection()
    keys = range(1, 11)
    put(rest, where, [tuple(one for key in keys for one in parts(key, key, 4))])
    qdrant.forget()
    batch = tuple(one for key in keys for one in parts(key, 20 + key, 1))
    put(rest, where, [batch], Writing(max_points=4))
    assert stored_parts(rest, where) == {str(key): version(20 + key, 1) for key in keys}
    assert qdrant.stats()["requests"]["delete"] == 3


# Faults


def test_parts_are_deleted_only_when_no_write_is_under_way(
    qdrant: RunningQdrant, remote: Server
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("delay", seconds=0.4, count=1, routes="upsert")
    put(remote, where, [parts(1, 0, 5), parts(1, 1, 2)])  # the first arrives after the second
    assert stored_parts(remote, where) == {"1": version(1, 2)}


@pytest.mark.parametrize("route", ["scroll", "delete"])
@pytest.mark.parametrize("kind", ["status", "reset", "reset_after"])
def test_an_outage_while_parts_are_deleted_is_waited_out(
    qdrant: RunningQdrant, remote: Server, naps: list[float], route: str, kind: str
) -> None:
    where = collection()
    put(remote, where, [parts(1, 0, 5)])
    qdrant.faults(kind, count=2, routes=route)
    put(remote, where, [parts(1, 1, 2)])
    # Where a deletion was done and its answer lost, nothing is left to delete again.
    assert len(naps) == (1 if (kind, route) == ("reset_after", "delete") else 2)
    assert stored_parts(remote, where) == {"1": version(1, 2)}


@pytest.mark.parametrize("kind", ["reset", "reset_after", "status"])
def test_a_write_that_is_repeated_brings_no_part_back(
    qdrant: RunningQdrant, remote: Server, naps: list[float], kind: str
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults(kind, count=3, routes="upsert")
    put(remote, where, [parts(1, 0, 5), parts(1, 1, 2), parts(1, 2, 3)])
    assert len(naps) == 3
    assert stored_parts(remote, where) == {"1": version(2, 3)}


def test_an_epoch_does_not_commit_while_stale_parts_stay(
    qdrant: RunningQdrant, remote: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = collection()
    put(remote, where, [parts(1, 0, 5)])
    sink = QdrantSink(remote, where)
    sink.list_parts()
    part = sink.build_part("flow.qdrant", "00", None)
    part.write_batch([parts(1, 1, 2)])
    qdrant.faults("status", status=503, count=None, routes="delete")
    monkeypatch.setattr(STOP, "drain_s", 0.1)
    STOP.request()
    with pytest.raises(BrokenFlowError, match=r"Step flow\.qdrant: "):
        part.snapshot()
    part.close()
    qdrant.clear()
    STOP.reset()
    put(remote, where, [parts(1, 1, 2)])  # as the replay does
    assert stored_parts(remote, where) == {"1": version(1, 2)}


def late(door: str, qdrant: RunningQdrant) -> Server:
    return (over_rest if door == "rest" else over_grpc)(qdrant, timeout_s=1)


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_a_part_that_a_given_up_request_brings_back_goes_with_the_next_write(
    qdrant: RunningQdrant, door: str, naps: list[float]
) -> None:
    server, where = late(door, qdrant), collection()
    prepare(server, where)
    qdrant.faults("delay", seconds=1.6, count=1, routes="upsert")
    # The first is given up and repeated, and comes after all when its repetition is long deleted.
    put(server, where, [parts(1, 0, 5), parts(1, 1, 2)], Writing(in_flight=1))
    assert len(naps) == 1
    assert stored_parts(server, where) == {"1": version(1, 2)}
    wait_until(lambda: qdrant.stats()["upserts"] == 3)
    # No fence keeps a point away that is not there: this is what is not guaranteed.
    assert stored_parts(server, where) == {"1": [(0, 2), (0, 3), (0, 4), *version(1, 2)]}
    put(server, where, [parts(1, 1, 2)])
    assert stored_parts(server, where) == {"1": version(1, 2)}
    server.close()


def test_a_version_that_is_refused_as_a_whole_deletes_nothing(
    store_at: Server, tmp_path: Path
) -> None:
    where = collection()
    letters = DeadLetterFile(tmp_path / "dead.jsonl")
    put(store_at, where, [parts(1, 0, 3)])
    put(store_at, where, [parts(1, 1, 2, dim=5), parts(2, 2, 2)], refused=letters)
    assert stored_parts(store_at, where) == {"1": version(0, 3), "2": version(2, 2)}
    assert len((tmp_path / "dead.jsonl").read_text().splitlines()) == 2


def test_a_part_that_is_refused_leaves_no_older_one_in_its_place(
    store_at: Server, tmp_path: Path
) -> None:
    where = collection()
    put(store_at, where, [parts(1, 0, 3)])
    new = (*parts(1, 1, 3)[:2], parts(1, 1, 3, dim=5)[2])
    put(store_at, where, [new], refused=DeadLetterFile(tmp_path / "dead.jsonl"))
    assert stored_parts(store_at, where) == {"1": [(1, 0), (1, 1)]}


# In a flow


def storing_versions(
    sink: QdrantSink, versions: Sequence[tuple[str, Points] | Crash], more: Sequence[Points] = ()
) -> Dataflow:
    """Build a flow of two source partitions: a document's versions, and other documents."""
    flow = Dataflow("storing")
    others: list[tuple[str, Points] | Crash] = [("01-0", one) for one in more]
    source = Lists({"p0": list(versions), "p1": others})
    op.output("qdrant", op.input("in", flow, source), sink)
    return flow


@pytest.mark.parametrize("epoch", [NO_TIME, timedelta(seconds=10)], ids=["many epochs", "one"])
def test_a_flow_leaves_the_newest_version_of_each_document(
    store_at: Server, entry_point: EntryPoint, epoch: timedelta
) -> None:
    where = collection()
    versions = [("00-0", parts(1, n, count)) for n, count in enumerate(VERSIONS)]
    others = [parts(2, n, 1 + n % 3) for n in range(5)]
    sink = QdrantSink(store_at, where, Writing(max_points=2))
    entry_point(storing_versions(sink, versions, others), epoch_interval=epoch)
    assert stored_parts(store_at, where) == {"1": version(3, 2), "2": version(4, 2)}


@pytest.mark.parametrize("at", range(len(VERSIONS) + 1))
def test_a_flow_that_crashed_anywhere_ends_as_one_that_did_not(
    rest: Server, entry_point: EntryPoint, recovery_config: RecoveryConfig, at: int
) -> None:
    where = collection()
    versions: list[tuple[str, Points] | Crash] = [
        ("00-0", parts(1, n, count)) for n, count in enumerate(VERSIONS)
    ]
    versions.insert(at, Crash(lambda: bool(at == 0 or stored_anything(rest, where))))

    def run() -> None:
        flow = storing_versions(QdrantSink(rest, where), versions)
        entry_point(flow, epoch_interval=timedelta(seconds=0.05), recovery_config=recovery_config)

    with pytest.raises((CrashError, RuntimeError)):
        run()
    run()
    assert stored_parts(rest, where) == {"1": version(3, 2)}


def stored_anything(server: Server, where: Collection) -> int:
    return server.client().count(where.name).count
