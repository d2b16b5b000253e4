"""A number is stored alike by REST, gRPC, memory, folder and file, or all refuse it by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow

from fastembed_stream import SparseEmbedding
from operators import (
    Batch,
    Failures,
    Identity,
    JsonLinesSink,
    Message,
    Points,
    QdrantSink,
    Record,
    Schema,
    Server,
    decode,
    described,
    to_points,
)
from operators.decoding import _parse_all
from operators.records import Vector
from operators.retrieval import Nearest
from tests.operators.qdrant_things import DIM, collection, offsets, point, put, stored
from tests.operators.retrieval_things import FEW, MEMORY, asked, fill, query, stage_of, thing
from tests.operators.retrieval_things import collection as searched
from tests.operators.things import Kept, Lists, message, on_workers, record

SAME = {
    "zero": "0",
    "largest integer": str((1 << 63) - 1),
    "smallest integer": str(-(1 << 63)),
    "integer beyond doubles": str((1 << 53) + 1),
    "largest float": "1.7976931348623157e308",
    "smallest float": "5e-324",
    "float that is too small": "1e-400",
    "tenth": "0.1",
    "large float": "1e22",
    "negative": "-1.5",
    "long fraction": "0." + "1" * 400,
    "nested": '{"a": [1, {"b": [2.5]}]}',
    "true": "true",
}
REFUSED = {
    "1e400": ("1e400", "'n' is not JSON compliant: it is beyond a 64-bit float"),
    "-1e400": ("-1e400", "'n' is not JSON compliant"),
    "1E+0400": ("1E+0400", "'n' is not JSON compliant"),
    "many digits with a fraction": ("9" * 400 + ".0", "'n' is not JSON compliant"),
    "2^63": (str(1 << 63), "'n' is 9223372036854775808; expected one from -2^63 to 2^63-1"),
    "-2^63-1": (str(-(1 << 63) - 1), "'n' is -9223372036854775809; expected one from"),
    "2^64": (str(1 << 64), "'n' is 18446744073709551616"),
    "300 digits": ("9" * 300, "'n' is an integer of 300 digits"),
    "9000 digits": ("9" * 9_000, "not JSON"),
    "in a list": ("[1, [2, 1e400]]", "'n[1][1]' is not JSON compliant"),
    "in an object": (
        '{"a.b": {"c": [18446744073709551615]}}',
        "'n.a.b.c[0]' is 18446744073709551615",
    ),
    "under a long name": ('{"%s": 1e400}' % ("x" * 9_000), "xxx...' is not JSON compliant"),
    "NaN": ("NaN", "NaN is not JSON"),
    "Infinity": ("Infinity", "Infinity is not JSON"),
    "-Infinity": ("[-Infinity]", "-Infinity is not JSON"),
}


def documents() -> list[Message]:
    values = [*SAME.values(), *(value for value, _ in REFUSED.values())]
    return [
        message(b'{"text": "a", "n": %s}' % value.encode(), offset=n, key=b"k%d" % n)
        for n, value in enumerate(values)
    ]


def embedded(batch: Batch) -> Batch:
    vector = np.ones(DIM, np.float32)
    done = [one.with_vector("dense", vector, model="f1") for one in batch.records]
    return Batch(records=tuple(done))


def through(sink: Any, *, points: bool) -> Failures:
    """Run all documents through a flow to a sink, and give what was refused."""
    flow = Dataflow("numbers")
    kept: Kept[Failures] = Kept()
    up = op.input("in", flow, Lists({"all": documents()}))
    records = decode("decode", up, schema=Schema())
    batches = op.map("embed", records.oks, lambda item: (item[0], embedded(item[1])))
    failed = [records.errs]
    if points:
        made = to_points("points", batches, identity=Identity(collection="c", source="s"))
        op.output("out", made.oks, sink)
        failed.append(made.errs)
    else:
        op.output("out", batches, sink)
    op.output("errs", op.merge("failures", *failed), kept)
    on_workers(0)(flow)
    return tuple(failure for some in kept.items for failure in some)


def check(failures: Failures, found: dict[int, Any]) -> None:
    n_same = len(SAME)
    reasons = {failure.origin.offset - n_same: failure.reason for failure in failures}
    wanted = [part for _, part in REFUSED.values()]
    assert sorted(reasons) == list(range(len(wanted)))
    assert [n for n, part in enumerate(wanted) if part not in reasons[n]] == []
    assert found == {n: json.loads(value) for n, value in enumerate(SAME.values())}
    assert all(type(found[n]) is type(json.loads(v)) for n, v in enumerate(SAME.values()))


def test_every_place_stores_the_same_numbers_and_refuses_the_same(store_at: Server) -> None:
    where = collection()
    failures = through(QdrantSink(store_at, where), points=True)
    payloads = [one.payload or {} for one in stored(store_at, where).values()]
    check(failures, {one["_stream"]["offset"]: one["n"] for one in payloads})


def test_a_file_gets_the_same_numbers_and_never_infinity(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    failures = through(JsonLinesSink(path, described), points=False)

    def no_constant(name: str) -> None:
        raise AssertionError(name)

    lines = [
        json.loads(line, parse_constant=no_constant) for line in path.read_bytes().splitlines()
    ]
    check(failures, {line["offset"]: line["payload"]["n"] for line in lines})


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_only_a_flows_own_code_can_bring_is_no_infinity_in_a_file(
    tmp_path: Path, value: float
) -> None:
    sink = JsonLinesSink[dict[str, object]](tmp_path / "out.jsonl", lambda one: [one])
    sink.list_parts()
    part = sink.build_part("out", "lines", None)
    part.write_batch([{"a": [1, {"b": value}], "c": (value,), "d": 2}])
    [line] = (tmp_path / "out.jsonl").read_text().splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert found == {"a": [1, {"b": str(value)}], "c": [str(value)], "d": 2}


@pytest.mark.parametrize("key", [-1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 70)])
def test_a_key_may_be_any_integer_where_it_is_not_stored_beside(key: int) -> None:
    one = message(b'{"text": "a", "id": %d}' % key)
    [(_, batch)] = _parse_all(Schema(key="id", payload=("text",)), [one])
    assert [record.key for record in batch.records] == [key]
    [(_, batch)] = _parse_all(Schema(key="id"), [one])
    if -(1 << 63) <= key < 1 << 63:
        assert [record.key for record in batch.records] == [key]
        return
    [failure] = batch.failures
    assert failure.reason.startswith(f"Field 'id' is {key}; expected one from -2^63 to 2^63-1.")


def test_every_integer_is_an_id_in_every_place(store_at: Server) -> None:
    where = collection()
    keys = [0, 7, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -1, -(1 << 63) - 1]
    for offset in (1, 2, 1):
        put(store_at, where, [tuple(point(key, offset) for key in keys)])
    found = offsets(store_at, where)
    assert set(found.values()) == {2}
    assert {key for key in found if isinstance(key, int)} == set(keys[:5])
    assert set(found) == {point(key).id for key in keys}


def made_of(*records: Record) -> Failures:
    kept: Kept[Failures] = Kept()
    flow = Dataflow("points")
    up = op.input("in", flow, Lists({"all": [("k", Batch(records=records))]}))
    made = to_points("points", up, identity=Identity(collection="c"))
    oks: Kept[Points] = Kept()
    op.output("oks", made.oks, oks)
    op.output("errs", made.errs, kept)
    on_workers(0)(flow)
    return tuple(failure for some in kept.items for failure in some)


def test_what_a_flows_own_code_makes_is_checked_before_it_is_stored() -> None:
    bad = np.array([1, np.inf, np.nan], np.float32)
    payloads: list[Any] = [{"n": 1 << 63}, {"a": (1, {"b": 1 << 70})}, {7: "x"}]
    vectors: list[Vector] = [
        bad,
        np.stack([bad, bad]),
        SparseEmbedding(indices=np.array([1, 2, 3], np.uint32), values=bad),
    ]
    failures = made_of(
        *(replace(record(n), payload=payload) for n, payload in enumerate(payloads)),
        *(record(n + 3).with_vector("v", vector, model="m") for n, vector in enumerate(vectors)),
        record(9),
    )
    reasons = {failure.origin.offset: failure.reason for failure in failures}
    assert "Field 'n' is 9223372036854775808" in reasons[0]
    assert "Field 'a[1].b' is 1180591620717411303424" in reasons[1]
    assert "named 7; expected text" in reasons[2]
    assert "Vector 'v' has 2 of 3 numbers that are NaN or infinite" in reasons[3]
    assert "Vector 'v' has 4 of 6 numbers" in reasons[4]
    assert "Vector 'v' has 2 of 3 numbers" in reasons[5]
    assert len(failures) == 6


def test_a_question_whose_vector_is_not_finite_fails_alone() -> None:
    where = fill(MEMORY, searched(), FEW)
    good = query(thing(1), 0)
    bad = replace(good, vectors={**good.vectors, "dense": np.array([1, math.inf, 0], np.float32)})
    batch = asked(stage_of(where, Nearest()), good, bad)
    assert len(batch.records) == 1
    assert "has 1 of 3 numbers that are NaN or infinite" in batch.failures[0].reason
