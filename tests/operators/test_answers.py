"""Each query is answered under its own key and headers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow

from operators import (
    Batch,
    Failures,
    Outgoing,
    Schema,
)
from operators.decoding import BadRecordError, parse
from operators.retrieval import (
    Nearest,
    RetrieveStage,
    answer_of,
    answered,
    as_lines,
    retrieve,
    to_answers,
)
from operators.retrieval.answers import Answers
from tests.operators.retrieval_things import (
    FEW,
    MEMORY,
    asked,
    collection,
    fill,
    query,
    stage_of,
    thing,
)
from tests.operators.things import EntryPoint, Kept, Lists, message


def ran(
    entry_point: EntryPoint, batches: Sequence[Batch], stage: RetrieveStage
) -> tuple[list[Answers], list[Failures]]:
    oks: Kept[Answers] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("retrieving")
    lists = {f"p{n}": [(f"0{n % 2}-0", one)] for n, one in enumerate(batches)}
    hits = retrieve("retrieve", op.input("in", flow, Lists(lists)), stage=stage)
    answers = to_answers("answers", hits.oks, topic="answers")
    op.output("oks", op.map("values", answers.oks, lambda item: ("", item[1])), oks)
    failures = op.merge("failures", hits.errs, answers.errs)
    op.output("errs", op.map("those", failures, lambda item: ("", item[1])), errs)
    entry_point(flow)
    return oks.items, errs.items


def test_each_query_is_answered_once_under_its_key_and_headers(entry_point: EntryPoint) -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW), Nearest(), limit=1)
    batches = [
        Batch(records=(query(thing(1), 0), query(thing(9), 1))),
        Batch(records=(query(thing(3), 2), query(thing(3), 3, limit=-1))),
    ]
    oks, errs = ran(entry_point, batches, stage)
    answers = {one.key: one for some in oks for one in some}
    assert answers.keys() == {b"q0", b"q1", b"q2"}
    for number, best in enumerate((1, 3, 2)):
        answer = answers[b"q%d" % number]
        assert answer.topic == "answers"
        assert answer.headers == (("correlation-id", b"%d" % number),)
        told = json.loads(answer.value or b"")
        assert told["id"] == f"q{number}"
        [hit] = told["hits"]
        assert hit == {
            "id": best,
            "score": pytest.approx(1.0),
            "payload": {"number": best},
        }
    assert [failure.origin.offset for some in errs for failure in some] == [3]


def test_an_answer_that_no_broker_takes_fails_alone(entry_point: EntryPoint) -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW, text="x" * 600_000), Nearest())
    records = (query(thing(1), 0, limit=1), query(thing(1), 1, limit=2))
    oks, errs = ran(entry_point, [Batch(records=records)], stage)
    assert [one.key for some in oks for one in some] == [b"q0"]
    [[failure]] = errs
    assert "at most 1,000,000 fit" in failure.reason


def test_a_score_that_json_has_not_is_an_error() -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW), Nearest(), limit=1)
    [record] = asked(stage, query(thing(1))).records
    with pytest.raises(ValueError, match="JSON"):
        answer_of(
            replace(record, hits=(replace(record.hits[0], score=float("nan")),)), topic="answers"
        )


def test_a_file_is_told_what_a_topic_is_told() -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW), Nearest())
    batch = asked(stage, query(thing(1)), query(thing(9), 1, limit=1))
    answers = tuple(answer_of(one, topic="answers") for one in batch.records)
    told = [
        json.loads(one.value or b"") | {"headers": [["correlation-id", str(number)]]}
        for number, one in enumerate(answers)
    ]
    assert list(answered(batch)) == list(as_lines(answers)) == told


def test_a_question_without_headers_has_a_line_without_them() -> None:
    answers = (Outgoing(topic="answers", key=b"a", value=b'{"id": "a", "hits": []}'),)
    assert list(as_lines(answers)) == [{"id": "a", "hits": []}]


def test_a_query_without_an_id_never_becomes_one() -> None:
    with pytest.raises(BadRecordError, match="no key"):
        parse(Schema(), message(b'{"text": "what"}', key=None))
