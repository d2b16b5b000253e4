"""A query may ask for a filter and a limit of its own, within what everyone may."""

from __future__ import annotations

import json
import re
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
    ({"filter": nested(12)}, "nests deeper than 24"),
]


@pytest.mark.parametrize(("told", "reason"), WRONG_TERMS)
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
