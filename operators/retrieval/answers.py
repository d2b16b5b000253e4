"""Queries with their hits to messages: the answers, which carry what the questions came with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from fastembed_stream.errors import SettingError
from operators.kafka import Outgoing
from operators.metrics import FAILURES
from operators.records import Batch, Batches, Failure, Failures, Headers, Record, as_text

__all__ = ["AnswerSplit", "Answers", "answer_of", "answered", "as_lines", "to_answers"]

Answers = tuple[Outgoing, ...]

_STAGE = "answer"


@dataclass(frozen=True)
class AnswerSplit:
    """Answers that go on to a topic or a file, and failures on their way to the dead letters."""

    oks: Stream[tuple[str, Answers]]
    errs: Stream[tuple[str, Failures]]


@operator
def to_answers(step_id: str, up: Batches, *, topic: str, max_bytes: int = 1_000_000) -> AnswerSplit:
    """
    Turn queries with hits into messages, for `KafkaSink`.

    max_bytes  an answer larger than this is a failure: a broker takes a little over 1 MB unless
               told otherwise, and `KafkaSink(refused=...)` makes one of what it takes not

    Delivery: stateless. A crash answers some queries again; the key and the headers, with any
    correlation id, tell whose answer it is.
    """
    if not topic:
        msg = "Answers need a topic; got an empty name."
        raise SettingError(msg)
    made = op.flat_map_batch("make", up, partial(_made, topic, max_bytes))
    return AnswerSplit(
        oks=op.flat_map_batch("oks", made, _answers_only),
        errs=op.flat_map_batch("errs", made, _failures_only),
    )


def answer_of(record: Record, *, topic: str) -> Outgoing:
    """
    Tell what was found for a query: {"id": its key, "hits": [{"id", "score", "payload"}]}.

    The message has the key and the headers of the query's own.

    raises  ValueError where a score or a payload is not JSON
    """
    value = json.dumps(_told(record), allow_nan=False, separators=(",", ":"))
    origin = record.origin
    return Outgoing(
        topic=topic, key=origin.key, value=value.encode(), headers=origin.headers, origin=origin
    )


def answered(batch: Batch) -> Iterator[dict[str, object]]:
    """Tell what was found for each query of a batch, as `as_lines` does: for `JsonLinesSink`."""
    return (_line(_told(record), record.origin.headers) for record in batch.records)


def as_lines(answers: Answers) -> Iterator[dict[str, object]]:
    """
    Tell a file what a topic would be told: for `JsonLinesSink`.

    Headers, if there are any, stand in the line: [[name, text], ...].
    """
    return (_line(json.loads(answer.value or b"{}"), answer.headers) for answer in answers)


def _line(told: dict[str, object], headers: Headers) -> dict[str, object]:
    if not headers:
        return told
    return {**told, "headers": [[name, as_text(value)] for name, value in headers]}


def _told(record: Record) -> dict[str, object]:
    hits = [{"id": hit.id, "score": hit.score, "payload": hit.payload} for hit in record.hits]
    return {"id": record.key, "hits": hits}


def _made(
    topic: str, max_bytes: int, items: list[tuple[str, Batch]]
) -> Iterable[tuple[str, tuple[Answers, Failures]]]:
    for key, batch in items:
        answers: list[Outgoing] = []
        failures = list(batch.failures)
        for record in batch.records:
            try:
                answers.append(_checked(answer_of(record, topic=topic), max_bytes))
            except (TypeError, ValueError) as error:
                failures.append(Failure.of(record.origin, _STAGE, error))
                FAILURES.labels(_STAGE).inc()
        yield key, (tuple(answers), tuple(failures))


def _checked(answer: Outgoing, max_bytes: int) -> Outgoing:
    size = len(answer.value or b"") + len(answer.key or b"")
    size += sum(len(name) + len(value or b"") for name, value in answer.headers)
    if size > max_bytes:
        msg = (
            f"The answer has {size:,} bytes; at most {max_bytes:,} fit. Ask for fewer hits, or "
            "for less of their payload."
        )
        raise ValueError(msg)
    return answer


def _answers_only(
    items: list[tuple[str, tuple[Answers, Failures]]],
) -> Iterable[tuple[str, Answers]]:
    return [(key, answers) for key, (answers, _) in items if answers]


def _failures_only(
    items: list[tuple[str, tuple[Answers, Failures]]],
) -> Iterable[tuple[str, Failures]]:
    return [(key, failures) for key, (_, failures) in items if failures]
