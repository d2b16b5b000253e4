"""A collection is made or compared, points are sent in bounded requests, and the newest stays."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from fastembed_stream import SettingError
from operators import (
    BrokenFlowError,
    Collection,
    Points,
    QdrantSink,
    Schema,
    Server,
    VectorSpace,
    Writing,
)
from operators.decoding import parse
from operators.points import point_of
from operators.qdrant import prepare
from operators.qdrant.collection import check
from operators.qdrant.requests import requests_of
from operators.spaces import Distance
from tests.operators.qdrant_things import (
    SOURCE,
    SPACE,
    collection,
    offsets,
    over_rest,
    point,
    points,
    put,
    stored,
    storing,
)
from tests.operators.things import NO_TIME, EntryPoint, Lists, message
from tests.servers import RunningQdrant, running_qdrant


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else adopts a collection of a test."""
    monkeypatch.setattr("operators.qdrant.collection._SETTLE_S", 0)


def test_points_are_stored_with_vectors_and_payload(
    store_at: Server, entry_point: EntryPoint
) -> None:
    where = collection()
    batches = [points(range(10 * n, 10 * n + 10), offset=n, text="t") for n in range(3)]
    entry_point(storing(QdrantSink(store_at, where), batches))
    found = stored(store_at, where)
    assert sorted(found) == list(range(30))
    one = found[25]
    assert one.vector == {"dense": [2, 3, 4, 5]}
    assert one.payload == point(25, 2, text="t").payload


@pytest.mark.parametrize("inner", ['{"a": %s}', "[%s]"])
def test_the_deepest_payload_that_is_decoded_is_stored(store_at: Server, inner: str) -> None:
    nested = "1"
    for _ in range(23):
        nested = inner % nested
    one = parse(Schema(), message(b'{"text": "a", "n": %s}' % nested.encode()))
    one = one.with_vector("dense", np.ones(4, np.float32), model="f1")
    where = collection()
    put(store_at, where, [(point_of(one, SOURCE, SOURCE.namespace),)])
    [found] = stored(store_at, where).values()
    assert (found.payload or {})["n"] == json.loads(nested)


def test_an_absent_collection_is_made_as_asked(store_at: Server) -> None:
    where = collection(
        dense=SPACE, other=VectorSpace(dim=7, model="n", fingerprint="f2", distance="cosine")
    )
    prepare(store_at, where)
    info = store_at.client().get_collection(where.name)
    vectors = info.config.params.vectors
    assert isinstance(vectors, dict)
    assert {name: (one.size, one.distance) for name, one in vectors.items()} == {
        "dense": (4, models.Distance.DOT),
        "other": (7, models.Distance.COSINE),
    }
    made_by = (info.config.metadata or {})["_stream"]
    assert made_by["other"] == {"model": "n", "fingerprint": "f2"}
    prepare(store_at, where)  # and what is there already is what is wanted


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ("cosine", models.Distance.COSINE),
        ("dot", models.Distance.DOT),
        ("euclid", models.Distance.EUCLID),
        ("manhattan", models.Distance.MANHATTAN),
    ],
)
def test_vectors_compare_by_the_chosen_distance(
    rest: Server, distance: Distance, expected: models.Distance
) -> None:
    where = collection(dense=replace(SPACE, distance=distance))
    prepare(rest, where)
    vectors = rest.client().get_collection(where.name).config.params.vectors
    assert isinstance(vectors, dict)
    assert vectors["dense"].distance == expected


def test_the_fence_has_payload_indexes_on_a_server(rest: Server) -> None:
    where = collection()
    prepare(rest, where)
    indexes = rest.client().get_collection(where.name).payload_schema
    assert {name: one.data_type.value for name, one in indexes.items()} == {
        "_stream.source": "keyword",
        "_stream.offset": "integer",
        "_stream.document": "keyword",
        "_stream.chunk": "integer",
    }


def test_all_that_differs_is_said_at_once(store_at: Server) -> None:
    where = collection(dense=SPACE, title=SPACE)
    prepare(store_at, where)
    other = VectorSpace(dim=5, model="m2", fingerprint="f2", distance="cosine")
    wanted = replace(where, vectors={"dense": other, "title": SPACE, "late": SPACE})
    with pytest.raises(SettingError) as refused:
        prepare(store_at, wanted)
    assert str(refused.value) == (
        f"Collection {where.name!r} is not what this flow writes: "
        "'dense' has 4 dimensions, m2 5; "
        "'dense' compares by Dot, this flow by cosine; "
        "'dense' was made by m (f1), this flow has m2 (f2); "
        "no vector 'late', it has 'dense', 'title'. "
        "Choose another collection, or the model and distance that it was made with."
    )


def test_a_collection_that_someone_else_made_is_taken_if_it_fits(rest: Server) -> None:
    where = collection()
    size = models.VectorParams(size=4, distance=models.Distance.DOT)
    rest.client().create_collection(where.name, {"dense": size})
    put(rest, where, [points(range(3))])
    assert len(stored(rest, where)) == 3


def identity(server: Server, where: Collection) -> str:
    prepare(server, where)
    return check(server, where)


SIZE = models.VectorParams(size=4, distance=models.Distance.DOT)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_collection_with_a_vector_that_each_write_would_drop_is_refused(
    store_at: Server, kind: str
) -> None:
    where = collection()
    dense = {"dense": SIZE, **({"more": SIZE} if kind == "dense" else {})}
    sparse = {"more": models.SparseVectorParams()} if kind == "sparse" else None
    store_at.client().create_collection(where.name, dense, sparse)
    with pytest.raises(SettingError, match="it has 'more' too, which a point loses"):
        prepare(store_at, where)


def test_a_collection_that_someone_else_filled_is_adopted_once_with_a_warning(
    store_at: Server, caplog: pytest.LogCaptureFixture
) -> None:
    where = collection()
    client = store_at.client()
    client.create_collection(where.name, {"dense": SIZE}, metadata={"theirs": "kept"})
    client.upsert(where.name, [models.PointStruct(id=1, vector={"dense": [1.0, 2, 3, 4]})])
    with caplog.at_level(logging.WARNING, "operators.qdrant"):
        assert identity(store_at, where) == identity(store_at, where)
    [line] = [one for one in caplog.messages if "did not write" in one]
    assert f"{where.name!r} has 1 points" in line
    metadata = client.get_collection(where.name).config.metadata or {}
    assert metadata["theirs"] == "kept"
    assert metadata["_stream"]["dense"] == {"model": "m", "fingerprint": "f1"}
    with pytest.raises(SettingError, match=r"'dense' was made by m \(f1\)"):
        prepare(store_at, replace(where, vectors={"dense": replace(SPACE, fingerprint="f2")}))


def test_processes_that_adopt_a_collection_at_once_agree_on_its_identity(
    rest: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.qdrant.collection._SETTLE_S", 0.3)
    where = collection()
    rest.client().create_collection(where.name, {"dense": SIZE})
    sinks = [QdrantSink(rest, where) for _ in range(4)]
    with ThreadPoolExecutor(4) as processes:
        list(processes.map(QdrantSink.list_parts, sinks))
    states = {sink.build_part("flow.qdrant", "00", None).snapshot() for sink in sinks}
    assert len(states) == 1


def test_payload_indexes_that_are_missing_are_made_at_each_start(
    rest: Server, remote: Server
) -> None:
    where = collection()
    ours = {"_stream.source", "_stream.offset", "_stream.document", "_stream.chunk"}
    for lost in ours:
        prepare(remote, where)
        rest.client().delete_payload_index(where.name, lost)
    prepare(remote, where)
    indexes = remote.client().get_collection(where.name).payload_schema
    assert set(indexes) == ours


def test_a_collection_made_again_has_another_identity(store_at: Server) -> None:
    where = collection()
    first = identity(store_at, where)
    assert identity(store_at, where) == first
    assert len(first) < 80
    store_at.client().delete_collection(where.name)
    assert identity(store_at, where) != first


def test_a_recovery_store_of_another_collection_ends_the_flow_and_says_what_to_do(
    store_at: Server,
) -> None:
    where, other = collection(), collection()
    sink = QdrantSink(store_at, where)
    part = sink.build_part("flow.qdrant", "00", None)
    part.write_batch([points(range(3))])
    state = part.snapshot()
    QdrantSink(store_at, where).build_part("flow.qdrant", "00", state).close()
    said = f"belongs to collection {where.name!r}; this is {other.name!r}"
    with pytest.raises(BrokenFlowError, match=said):
        QdrantSink(store_at, other).build_part("flow.qdrant", "00", state)
    store_at.client().delete_collection(where.name)
    with pytest.raises(BrokenFlowError, match=r"made again\. .* with an empty recovery store"):
        QdrantSink(store_at, where).build_part("flow.qdrant", "00", state)


def test_a_flow_does_not_go_on_half_way_in_an_empty_collection(
    rest: Server, recovery_config: RecoveryConfig, entry_point: EntryPoint
) -> None:
    where = collection()
    lists: dict[str, list[tuple[str, Points]]] = {"p": [("00-0", points(range(3)))]}

    def run() -> None:
        flow = Dataflow("storing")
        op.output("qdrant", op.input("in", flow, Lists(lists)), QdrantSink(rest, where))
        entry_point(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)

    run()
    lists["p"].append(("00-0", points(range(3, 6))))
    run()
    assert sorted(stored(rest, where)) == list(range(6))
    rest.client().delete_collection(where.name)
    lists["p"].append(("00-0", points(range(6, 9))))
    with pytest.raises((BrokenFlowError, RuntimeError)):
        run()
    assert stored(rest, where) == {}


def test_a_sink_of_a_flow_refuses_another_models_collection_before_any_point(
    store_at: Server, entry_point: EntryPoint
) -> None:
    where = collection()
    prepare(store_at, where)
    wanted = replace(where, vectors={"dense": replace(SPACE, fingerprint="f9")})
    with pytest.raises((SettingError, RuntimeError)):
        entry_point(storing(QdrantSink(store_at, wanted), [points(range(3))]))
    assert stored(store_at, where) == {}


def test_a_server_that_cannot_fence_is_refused() -> None:
    with running_qdrant(server_version="1.15.0") as old:
        server = over_rest(old)
        with pytest.raises(SettingError, match=r"Qdrant 1\.15\.0 cannot fence .* expected 1\.16"):
            prepare(server, collection())
        server.close()


def test_a_request_has_no_more_points_than_asked(qdrant: RunningQdrant, rest: Server) -> None:
    where = collection()
    put(rest, where, [points(range(25)), points(range(25, 30))], Writing(max_points=10))
    assert sorted(qdrant.stats()["points_per_upsert"]) == [5, 5, 10, 10]
    assert len(stored(rest, where)) == 30


def test_a_request_has_no_more_bytes_than_asked(qdrant: RunningQdrant, rest: Server) -> None:
    where = collection()
    put(rest, where, [points(range(30), text="x" * 900)], Writing(max_bytes=5_000))
    assert len(qdrant.stats()["points_per_upsert"]) >= 6
    # The filter that fences comes on top: some 300 bytes a point.
    assert qdrant.stats()["largest_body_bytes"] < 5_000 + 10 * 400


def test_several_requests_are_under_way_at_once_but_no_more_than_asked(
    qdrant: RunningQdrant, remote: Server
) -> None:
    where = collection()
    prepare(remote, where)
    qdrant.faults("delay", seconds=0.1, count=None, routes="upsert")
    put(remote, where, [points(range(12))], Writing(max_points=2, in_flight=3))
    assert 2 <= qdrant.stats()["max_concurrent"] <= 3
    assert len(stored(remote, where)) == 12


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), max_size=30),
    st.integers(1, 8),
    st.integers(1, 3_000),
)
def test_requests_hold_the_last_write_of_each_id_within_their_limits(
    written: list[tuple[int, int]], max_points: int, max_bytes: int
) -> None:
    given_ = tuple(point(key, at, text="x" * size) for at, (key, size) in enumerate(written))
    requests = list(requests_of(given_, Writing(max_points=max_points, max_bytes=max_bytes)))
    sent = [one for request in requests for one in request]
    last = {one.id: one.origin.offset for one in given_}
    assert {one.id: one.origin.offset for one in sent} == last
    assert len(sent) == len(last)
    for request in requests:
        assert 1 <= len(request) <= max_points
        assert len(request) == 1 or sum(one.size_bytes for one in request) <= max_bytes


def test_of_several_writes_to_a_point_in_a_batch_the_last_stays(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [(point(1, 5), point(2, 6), point(1, 7))])
    assert offsets(store_at, where) == {1: 7, 2: 6}


def test_an_older_version_never_replaces_a_newer_one_of_its_partition(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [points(range(3), offset=9)])
    put(store_at, where, [(point(0, 8), point(1, 10), point(3, 1))])
    assert offsets(store_at, where) == {0: 9, 1: 10, 2: 9, 3: 1}
    assert stored(store_at, where)[0].vector == {"dense": [9, 10, 11, 12]}


def test_offsets_of_another_partition_are_not_compared(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [(point(1, 9, partition=0),)])
    put(store_at, where, [(point(1, 2, partition=1),)])
    assert offsets(store_at, where) == {1: 2}


def test_a_repeat_changes_nothing(store_at: Server) -> None:
    where = collection()
    put(store_at, where, [points(range(5), offset=3)])
    before = stored(store_at, where)
    put(store_at, where, [points(range(5), offset=3)])
    assert stored(store_at, where) == before


def test_when_a_snapshot_returns_all_is_stored(qdrant: RunningQdrant, remote: Server) -> None:
    where = collection()
    sink = QdrantSink(remote, where, Writing(max_points=3))
    sink.list_parts()
    part = sink.build_part("qdrant", "00", None)
    qdrant.faults("delay", seconds=0.1, count=None, routes="upsert")
    part.write_batch([points(range(10)), points(range(10, 20))])
    part.snapshot()
    assert sorted(stored(remote, where)) == list(range(20))


def test_workers_share_a_folder(tmp_path: Path, entry_point: EntryPoint) -> None:
    server = Server(path=tmp_path / "shared")
    where = collection()
    entry_point(storing(QdrantSink(server, where), [points(range(n, 200, 4)) for n in range(4)]))
    server.close()
    again = Server(path=tmp_path / "shared")  # what is on disk, not what was in memory
    assert len(stored(again, where)) == 200
    again.close()


def test_a_folder_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    server = Server(path=tmp_path / "file" / "qdrant")
    with pytest.raises(SettingError, match=r"Folder .*file/qdrant of Qdrant cannot be opened: "):
        prepare(server, collection())


def test_a_folder_that_another_process_has_is_refused_and_says_why(tmp_path: Path) -> None:
    server = Server(path=tmp_path)
    other = QdrantClient(path=str(tmp_path))  # a lock of its own, as that of another process
    try:
        with pytest.raises(SettingError, match="one process at a time"):
            prepare(server, collection())
    finally:
        other.close()
    prepare(server, collection())
    server.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Server, "Expected exactly one of url, path, memory"),
        (lambda: Server(url="http://x", memory=True), "Expected exactly one of url, path, memory"),
        (lambda: Collection(name="", vectors={"a": SPACE}), "needs a name and at least one vector"),
        (lambda: Collection(name="c", vectors={}), "needs a name and at least one vector"),
        (lambda: Collection(name="c", vectors={"id": SPACE}), "cannot be named 'id'"),
        (lambda: Writing(max_points=0), "max_points=0"),
        (lambda: Writing(max_bytes=0), "max_bytes=0"),
        (lambda: Writing(in_flight=0), "in_flight=0"),
    ],
)
def test_a_description_that_cannot_be_right_is_refused(wrong: object, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        wrong()  # type: ignore[operator]  # each is a lambda


def test_an_api_key_is_not_shown() -> None:
    assert "secret" not in repr(Server(url="http://x", api_key="secret"))
