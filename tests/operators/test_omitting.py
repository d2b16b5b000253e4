"""A document's parts have no more bytes together than was allowed, and say what they left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import Failures, Identity, Part
from operators.omitting import payloads_of_parts
from operators.points import point_of
from operators.records import one_for_each_message
from tests.operators.things import failed, failure, record

TEXT = "the whole text"
PARTS = ("the whole", "text", "end")


def size(payload: object) -> int:
    return len(json.dumps(payload))


def shared(payload: Mapping[str, object], most: int, path: str | None = "text") -> list[Any]:
    return list(payloads_of_parts(payload, TEXT, PARTS, path=path, most=most))


def test_payloads_within_the_bound_are_the_documents_with_each_parts_own_text() -> None:
    whole = {"text": TEXT, "html": "x" * 100, "n": 7}
    assert shared(whole, 1_000) == [{**whole, "text": part} for part in PARTS]
    assert shared(whole, 1_000, None) == [whole] * 3
    one = payloads_of_parts(whole, TEXT, [TEXT], path="text", most=1)
    assert one == [whole], "a text in one part repeats nothing"


def test_the_largest_fields_go_first_and_are_told_with_their_bytes() -> None:
    whole = {"text": TEXT, "html": "x" * 900, "raw": ["y" * 400], "title": "a title"}
    [first, *_] = shared(whole, 600)
    assert {name: value for name, value in first.items() if name != "_stream"} == {
        "text": "the whole",
        "title": "a title",
    }
    omitted = first["_stream"]["omitted"]
    assert list(omitted) == ["html", "raw"]
    assert omitted["html"] == pytest.approx(900, abs=20)
    [first, *_] = shared(whole, 2_400)
    assert list(first["_stream"]["omitted"]) == ["html"]


def test_the_text_stays_wherever_it_stands_and_what_is_beside_it_may_go() -> None:
    whole = {"doc": {"body": TEXT, "html": "x" * 900}, "n": 1}
    found = shared(whole, 600, "doc.body")
    assert [one["doc"] for one in found] == [{"body": part} for part in PARTS]
    assert list(found[0]["_stream"]["omitted"]) == ["doc.html"]
    dotted = {"doc.body": TEXT, "doc": {"body": "x" * 900}}
    assert [one["doc.body"] for one in shared(dotted, 600, "doc.body")] == list(PARTS)


def test_a_field_that_is_not_the_text_is_no_text_to_keep() -> None:
    [first, *_] = shared({"text": TEXT + "x" * 900, "n": 1}, 600)
    assert list(first) == ["n", "_stream"]


@pytest.mark.parametrize("most", [1, 40])
def test_where_not_even_the_texts_fit_it_is_a_failure(most: int) -> None:
    with pytest.raises(ValueError, match=f"together; at most {most} are allowed. Store fewer"):
        shared({"text": TEXT}, most)


def test_many_fields_with_long_names_are_told_in_short() -> None:
    whole = {f"{number}-{'n' * 1_000}": "v" * 10 for number in range(500)}
    [first, *_] = shared({"text": TEXT, **whole}, 30_000)
    told = first["_stream"]
    assert len(told["omitted"]) <= 20
    assert len(told["omitted"]) + told["omitted_more"] > 480
    assert 3 * size(first) <= 30_000


LEAVES = st.text(max_size=40) | st.integers() | st.lists(st.text(max_size=9), max_size=9)
OBJECTS = st.dictionaries(
    st.sampled_from(["text", "doc", "body", "a.b", "html", "é"]),
    LEAVES | st.just(TEXT) | st.dictionaries(st.sampled_from(["body", "text", "x"]), LEAVES),
)


@given(OBJECTS, st.sampled_from(["text", "doc.body", None]), st.integers(1, 2_000))
def test_all_parts_together_keep_the_bound(
    payload: dict[str, object], path: str | None, most: int
) -> None:
    try:
        found = shared(payload, most, path)
    except ValueError:
        return
    assert sum(map(size, found)) <= most
    for one in found:
        told = one.get("_stream", {})
        gone = told.get("omitted", {})
        assert payload.keys() - one.keys() <= gone.keys() or "omitted_more" in told


def test_a_point_keeps_what_its_part_left_out() -> None:
    [payload, *_] = shared({"text": TEXT, "html": "x" * 900}, 500)
    part = Part(number=0, count=3, start=0, end=9)
    identity = Identity(collection="docs")
    point = point_of(replace(record(0), payload=payload, part=part), identity, identity.namespace)
    stamp: Any = point.payload["_stream"]
    assert list(stamp["omitted"]) == ["html"]
    assert stamp["chunks"] == 3


def test_the_parts_of_a_document_that_fail_alike_are_one_dead_letter() -> None:
    twice: Failures = (failure(1), failure(2), failure(1), replace(failure(1), stage="point"))
    kept = one_for_each_message((*twice, failure(1)))
    assert failed([kept]) == [1, 2, 1]
    assert [one.stage for one in kept] == ["decode", "decode", "point"]
    assert [one.reason for one in kept] == ["bad (and 2 more of its parts)", "bad", "bad"]
