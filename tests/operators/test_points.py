"""The same record always gives the same point, and no two records give one."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import Batch, Failures, Identity, Part, Point, Points, Record, to_points
from operators.points import point_of
from tests.operators.things import (
    EntryPoint,
    Kept,
    Lists,
    batch,
    failed,
    failure,
    message,
    on_workers,
    record,
)

DOCS = Identity(collection="docs")


def keyed(key: str | int, topic: str = "t") -> Record:
    return replace(record(0), key=key, origin=message(topic=topic))


def made(one: Record, identity: Identity = DOCS) -> Point:
    return point_of(one, identity, identity.namespace)


def through(
    entry_point: EntryPoint, batches: Sequence[Batch], max_bytes: int = 1 << 24
) -> tuple[list[Points], list[Failures]]:
    oks: Kept[Points] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("points")
    source = op.input("in", flow, Lists({"all": [("k", one) for one in batches]}))
    split = to_points("points", source, identity=DOCS, max_bytes=max_bytes)
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    return oks.items, errs.items


def test_the_same_record_gives_the_same_point() -> None:
    one = record(1).with_vector("dense", np.ones(2, np.float32), model="m")
    assert made(one).id == made(one).id
    assert made(one).payload == made(one).payload


def test_ids_differ_by_collection_source_and_key() -> None:
    ids = {
        made(keyed("a")).id,
        made(keyed("b")).id,
        made(keyed("a", topic="u")).id,
        made(keyed("a"), Identity(collection="other")).id,
        made(keyed("a"), Identity(collection="docs", source="fixed")).id,
    }
    assert len(ids) == 5
    assert all(uuid.UUID(str(one)).version == 5 for one in ids)


def test_a_named_source_makes_ids_the_same_for_all_topics() -> None:
    fixed = Identity(collection="docs", source="articles")
    assert made(keyed("a", topic="t"), fixed).id == made(keyed("a", topic="u"), fixed).id


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_an_unsigned_integer_key_is_the_id(key: int) -> None:
    assert made(keyed(key)).id == key


@pytest.mark.parametrize("key", [-1, 2**64, -(2**70)])
def test_any_other_integer_key_gets_an_id_of_its_own(key: int) -> None:
    assert uuid.UUID(str(made(keyed(key)).id)).version == 5
    assert made(keyed(key)).id != made(keyed(str(key))).id


TOPICS = st.text("abcXYZ019._-", min_size=1, max_size=6)
KEYS = st.text() | st.integers(0, 2**66)


@given(st.lists(st.tuples(TOPICS, KEYS), max_size=6, unique=True))
def test_no_two_keys_of_any_topics_share_an_id_but_one_integer(
    places: list[tuple[str, str | int]],
) -> None:
    ids: dict[str | int, set[tuple[str, str | int]]] = {}
    for topic, key in places:
        ids.setdefault(made(keyed(key, topic)).id, set()).add((topic, key))
    for point_id, places_of_id in ids.items():
        # An integer stays itself whatever its topic.
        assert len(places_of_id) == 1 or {key for _, key in places_of_id} == {point_id}


def part(number: int, count: int = 9) -> Part:
    return Part(number=number, count=count, start=10 * number, end=10 * number + 10)


def test_a_documents_first_part_has_the_id_of_the_whole_and_each_other_one_of_its_own() -> None:
    whole = keyed("a")
    ids = [made(replace(whole, part=part(number))).id for number in range(9)]
    assert ids[0] == made(whole).id
    assert len(set(ids)) == 9
    assert ids == [made(replace(whole, part=part(number, count=20))).id for number in range(9)]


@given(
    st.sets(st.tuples(KEYS | st.sampled_from(["5", "5\x1f1", 5]), st.integers(0, 12)), max_size=8)
)
def test_no_two_parts_of_any_documents_share_an_id(places: set[tuple[str | int, int]]) -> None:
    ids = {made(replace(keyed(key), part=part(number))).id for key, number in places}
    assert len(ids) == len(places)


@given(KEYS, KEYS, st.integers(1, 9))
def test_no_part_but_the_first_has_the_id_of_a_whole_document(
    one: str | int, other: str | int, number: int
) -> None:
    assert made(replace(keyed(one), part=part(number))).id != made(keyed(other)).id


@pytest.mark.parametrize("key", ["a", 5])
def test_a_part_says_which_part_of_which_document_it_is(key: str | int) -> None:
    point = made(replace(keyed(key), part=Part(number=2, count=4, start=20, end=31)))
    stamp = point.payload["_stream"]
    assert isinstance(stamp, dict)
    told = {name: stamp[name] for name in ("document", "chunk", "chunks", "start", "end")}
    assert told == {
        "document": str(made(keyed(key)).id),
        "chunk": 2,
        "chunks": 4,
        "start": 20,
        "end": 31,
    }
    assert point.document == told["document"]


def test_a_payload_carries_the_version_and_what_the_point_was_made_of() -> None:
    one = record(7).with_vector("dense", np.ones(2, np.float32), model="m1")
    point = made(one)
    assert point.payload["_stream"] == {
        "source": "docs/0",
        "offset": 7,
        "key": "k7",
        "timestamp_ms": None,
        "content": {"text": hashlib.blake2b(b"text 7", digest_size=8).hexdigest()},
        "model": {"dense": "m1"},
    }
    assert point.payload["n"] == 7
    assert point.vectors is one.vectors
    assert point.origin is one.origin


def test_the_content_digest_changes_with_the_text_alone() -> None:
    def digest(one: Record) -> object:
        stamp = made(one).payload["_stream"]
        assert isinstance(stamp, dict)
        return stamp["content"]

    assert digest(record(1, "a")) == digest(record(2, "a"))
    assert digest(record(1, "a")) != digest(record(1, "b"))
    assert digest(replace(record(1), fields={"text": b"a"})) == digest(record(1, "a"))


@given(st.dictionaries(st.text(max_size=5), st.text() | st.integers(), max_size=4))
def test_a_points_size_is_that_of_its_payload_as_json(payload: dict[str, object]) -> None:
    point = made(replace(record(0), payload=payload))
    assert len(json.dumps(point.payload, ensure_ascii=False).encode()) <= point.size_bytes


def test_records_become_points_and_bad_payloads_failures(entry_point: EntryPoint) -> None:
    good = batch(0, 1).records
    not_json = replace(record(2), payload={"n": float("nan")})
    no_type = replace(record(3), payload={"n": object()})
    no_text = replace(record(4), key="\ud800")
    large = replace(record(5), payload={"n": "x" * 2000})
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"n": deep}
    too_deep = replace(record(6), payload=deep)
    given_ = Batch(records=(good[0], not_json, no_type, no_text, large, too_deep, good[1]))
    oks, errs = through(entry_point, [given_], max_bytes=1000)
    assert [point.origin.offset for points in oks for point in points] == [0, 1]
    assert failed(errs) == [2, 3, 4, 5, 6]
    [reasons] = [[one.reason for one in some] for some in errs]
    assert "Field 'n' is not JSON compliant: it is NaN" in reasons[0]
    assert "not JSON serializable" in reasons[1]
    assert "surrogates not allowed" in reasons[2]
    assert "bytes; at most 1,000 fit." in reasons[3]
    assert "recursion" in reasons[4]
    assert {one.stage for one in errs[0]} == {"point"}


def test_failures_of_earlier_steps_go_the_way_of_failures() -> None:
    given_ = Batch(records=batch(0).records, failures=(failure(9),))
    oks, errs = through(on_workers(0), [given_, Batch(records=(), failures=(failure(8),))])
    assert [len(points) for points in oks] == [1]
    assert failed(errs) == [9, 8]


def test_an_identity_without_a_collection_is_refused() -> None:
    with pytest.raises(SettingError, match="needs the name of its collection"):
        Identity(collection="")
