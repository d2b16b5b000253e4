"""A query may ask for a filter and a limit of its own, within what everyone may."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from qdrant_client import models

from operators import (
    Server,
)
from operators.retrieval import (
    Fused,
    Nearest,
    Rescored,
)
from operators.retrieval.filters import FilterError, parsed_filter
from tests.operators.retrieval_things import (
    DENSE,
    FEW,
    LATE,
    MEMORY,
    asked,
    collection,
    fill,
    found,
    query,
    stage_of,
    thing,
)


def number_is(*numbers: int) -> dict[str, Any]:
    return {"must": [{"key": "number", "match": {"any": list(numbers)}}]}


def test_a_query_has_a_filter_and_a_limit_of_its_own(store_at: Server) -> None:
    where = fill(store_at, collection(), FEW)
    queries = [
        query(thing(1), 0, filter=number_is(2, 3)),
        query(thing(1), 1, limit=1),
        query(thing(1), 2, limit=None, filter=None),
        replace(query(thing(1), 3), fields={"filter": json.dumps(number_is(3)), "limit": "2"}),
    ]
    for search in (Nearest(vector=DENSE), Fused(vectors=(DENSE, LATE)), Rescored(first=Nearest())):
        stage = stage_of(where, search, store_at)
        assert found(asked(stage, *queries)) == [[2, 3], [1], [1, 2, 3], [3]]


def test_no_query_finds_what_everyones_filter_hides() -> None:
    where = fill(MEMORY, collection(), FEW)
    everyones = models.Filter.model_validate(number_is(1, 2))
    queries = [
        query(thing(1), 0),
        query(thing(1), 1, filter=number_is(2, 3)),
        query(thing(1), 2, filter={"should": [{"is_empty": {"key": "none"}}]}),
        query(thing(1), 3, filter={"must_not": [number_is(1)]}),
    ]
    for search in (Nearest(vector=DENSE), Fused(vectors=(DENSE, LATE)), Rescored(first=Nearest())):
        stage = stage_of(where, search, filter=everyones)
        assert found(asked(stage, *queries)) == [[1, 2], [2], [1, 2], [2]]


def nested(levels: int) -> dict[str, Any]:
    told: dict[str, Any] = number_is(1)
    for _ in range(levels):
        told = {"must": [told]}
    return told


def at_least(least: object) -> dict[str, Any]:
    return {"must": [{"key": "number", "range": {"gte": least}}]}


WRONG_TERMS = [
    ({"limit": 0}, "'limit' is 0; expected an integer from 1 to 1,000"),
    ({"limit": 1001}, "'limit' is 1001"),
    ({"limit": True}, "'limit' is True"),
    ({"limit": 2.5}, "'limit' is 2.5"),
    ({"limit": "ten"}, "'limit' is not JSON"),
    ({"filter": {"nonsense": 1}}, "'filter' is no filter of Qdrant: Extra inputs .* at nonsense"),
    ({"filter": {"must": [{"key": "a", "range": {"gt": "x"}}]}}, "at must.*range"),
    ({"filter": "{"}, "'filter' is not JSON"),
    ({"filter": '{"must": [{"key": "a", "range": {"gt": NaN}}]}'}, "NaN is not JSON"),
    ({"filter": "[" * 100_000}, "'filter' is not JSON"),
    ({"filter": [1]}, "'filter' is no filter of Qdrant"),
    ({"filter": at_least(float("inf"))}, "must.0..range.gte. is not JSON compliant: it is beyond"),
    ({"filter": at_least(float("nan"))}, "is not JSON compliant: it is NaN"),
    ({"filter": json.dumps(at_least(1)).replace("1", "1e400")}, "is not JSON compliant"),
    ({"filter": at_least("1e400")}, "is not JSON compliant"),
    ({"filter": at_least("-inf")}, "is not JSON compliant"),
    ({"filter": at_least("nan")}, "is not JSON compliant"),
    ({"filter": number_is(1 << 63)}, "is 9223372036854775808; expected one from -2.63 to 2.63-1"),
    ({"filter": number_is(-(1 << 63) - 1)}, "expected one from -2.63 to 2.63-1"),
    ({"filter": {"must": {"has_id": [-1]}}}, "should be at least 0 at must.has_id.0"),
    ({"filter": {"must": {"has_id": [1 << 64]}}}, r"should be at most 2\^64-1 at must.has_id.0"),
    ({"filter": {"must": {"has_id": ["a"]}}}, "a UUID or an integer at must.has_id.0"),
    ({"filter": {"must": {"key": "n", "values_count": {"lt": -1}}}}, "should be at least 0"),
    ({"filter": {"min_should": {"conditions": [], "min_count": -1}}}, "should be at least 0"),
    ({"filter": {"must": [{"nested": {"key": "a", "filter": {"x": 1}}}]}}, "at must.0.nested.fil"),
    ({"limit": 10**400}, "'limit' is 100000.*; expected an integer from 1 to"),
    ({"limit": float("inf")}, "'limit' is inf"),
    ({"limit": [["x" * 100_000] * 9]}, "'limit' is .{1,200}; expected an integer"),
    ({"limit": "[" * 900 + "]" * 900}, "'limit' is .*; expected an integer"),
    ({"limit": "1" * (2 << 20)}, "'limit' has 2,097,152 characters; at most 1,048,576"),
    ({"filter": nested(12)}, "nests deeper than 24"),
]


@pytest.mark.parametrize(
    ("told", "reason"), WRONG_TERMS, ids=[str(n) for n, _ in enumerate(WRONG_TERMS)]
)
def test_a_query_that_asks_for_nonsense_fails_alone(told: dict[str, Any], reason: str) -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW), Nearest())
    batch = asked(stage, query(thing(1), 0), query(thing(1), 1, **told), query(thing(1), 2))
    assert [record.key for record in batch.records] == ["q0", "q2"]
    [failure] = batch.failures
    assert failure.origin.offset == 1
    assert failure.stage == "retrieve dense"
    assert re.search(reason, failure.reason), failure.reason


def test_the_deepest_filter_that_passes_is_understood_everywhere(store_at: Server) -> None:
    stage = stage_of(fill(store_at, collection(), FEW), Nearest(), store_at)
    assert found(asked(stage, query(thing(1), filter=nested(9)))) == [[1]]


def corners(*points: object) -> dict[str, Any]:
    return {"key": "a", "geo_polygon": {"exterior": {"points": list(points)}}}


WIDE: dict[str, Any] = {
    "conditions of no kind": {"must": [{"a": 1}] * 30_000},
    "fewer of them": {"must": [{"a": 1}] * 900},
    "texts for conditions": {"must": ["x"] * 30_000},
    "a list for a match": {"must": {"key": "a", "match": [1] * 30_000}},
    "numbers to match": {"must": {"key": "a", "match": {"any": [1.5] * 30_000}}},
    "objects to match": {"must": {"key": "a", "match": {"any": [{}] * 30_000}}},
    "mixed to match": {"must": {"key": "a", "match": {"any": ["a"] * 30_000 + [1]}}},
    "lists to match": [{"must": {"key": "a", "match": {"any": [[{"x": [1]}]]}}}] * 9_000,
    "many bad matches": {"must": [{"key": "a", "match": {"any": [[{"x": [1]}]]}}] * 900},
    "no ids": {"must": {"has_id": [1.5] * 30_000}},
    "no corners": {"must": corners(*[{}] * 30_000)},
    "fewer corners": {"must": corners(*[{}] * 1_000)},
    "names": {"must": {"key": "a", **{f"n{n}": 1 for n in range(30_000)}}},
    "names to match": {"must": {"key": "a", "match": {f"n{n}": 1 for n in range(30_000)}}},
    "a long name": {"must": {"key": "a", "x" * 300_000: 1}},
    "a long name at the top": {"x" * 300_000: 1},
    "long texts": {"must": [{"key": "a", "match": {"text": "x" * 300_000}}] * 5},
    "values": {"must": [{"key": "a", "match": {"any": list(range(30_000))}}] * 2},
}


@pytest.mark.parametrize("told", WIDE.values(), ids=WIDE)
def test_a_wide_wrong_filter_is_refused_at_its_first_fault(told: object) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FilterError) as refused:
            parsed_filter(told)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20
    assert len(str(refused.value)) < 500


IDS = ["0a1b2c3d-0000-4000-8000-000000000001", 7]
GOOD: list[dict[str, Any]] = [
    {},
    {"must": None},
    {"must": {"key": "a", "match": {"value": 1}}},
    {"must": [{"key": "a", "match": {"any": list(range(30_000))}}]},
    {"must_not": [{"key": "a", "match": {"except": [f"text {n}" for n in range(9_000)]}}]},
    {"must": {"has_id": [(1 << 64) - 1]}},  # an id that a point may have
    {"should": [{"has_id": IDS * 9_000}, {"has_vector": "dense"}, {"is_empty": {"key": "a"}}]},
    {"should": [{"is_null": {"key": "a"}}, {"key": "a", "values_count": {"gte": 0}}]},
    {"must": [{"key": "a", "range": {"gt": "2020-01-01T00:00:00Z"}}]},
    {"must": [{"key": "a", "range": {"gt": 1, "lt": 1e308}}]},
    {"must": [corners(*[{"lat": 1.0, "lon": 2.0}] * 900)]},
    {"must": [{"nested": {"key": "a", "filter": number_is(1)}}]},
    {"min_should": {"conditions": [{"key": "a", "match": {"value": True}}], "min_count": 1}},
    {"must": [{"should": [number_is(1), {"must_not": [number_is(2)]}]}]},
    {"must": [{}]},
]


@pytest.mark.parametrize("told", GOOD, ids=[str(n) for n, _ in enumerate(GOOD)])
def test_a_good_filter_is_read_as_the_model_reads_it(told: dict[str, Any]) -> None:
    read, wanted = parsed_filter(told), models.Filter.model_validate(told)
    for name in ("must", "must_not", "should"):
        clause = getattr(wanted, name)
        setattr(wanted, name, clause if isinstance(clause, list | None) else [clause])
    assert read == wanted


def test_a_question_with_a_wide_wrong_filter_fails_alone_and_costs_little() -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW), Nearest())
    wide = {"must": [{"key": "a", "match": {"any": [[{"x": [1]}]]}}] * 6_000}
    questions = [
        query(thing(1), 0),
        query(thing(1), 1, filter=wide),
        replace(query(thing(1), 2), fields={"filter": json.dumps(wide)}),
    ]
    stage.open()
    tracemalloc.start()
    try:
        batch = asked(stage, *questions)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found(batch) == [[1, 2, 3]]
    assert [failure.origin.offset for failure in batch.failures] == [1, 2]
    assert all("at most 1,000 conditions" in failure.reason for failure in batch.failures)
    assert all(len(failure.traceback) < 3_000 for failure in batch.failures)
    assert peak_bytes < 32 << 20
