"""A message that the client cannot read whole is a failure with what can be had of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from confluent_kafka import TIMESTAMP_CREATE_TIME

from operators import (
    Batch,
    Cluster,
    DamagedMessage,
    Failures,
    KafkaSource,
    Message,
    Outgoing,
    Schema,
    decode,
)
from operators.dead_letter import as_line, as_message
from operators.decoding import BadRecordError, parse
from operators.kafka.source import _message
from tests.operators.kafka_things import ENDING, new_topic, write
from tests.operators.things import EntryPoint, Kept, message
from tests.servers.raw_headers import produce_with_headers


class Odd:
    """A client's message, some of whose answers are errors."""

    def __init__(self, **errors: BaseException) -> None:
        self._errors = errors
        self.asked: list[str] = []

    def _answer(self, what: str, answer: Any) -> Any:
        self.asked.append(what)
        if what in self._errors:
            raise self._errors[what]
        return answer

    def topic(self) -> str:
        return "docs"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 41

    def timestamp(self) -> tuple[int, int]:
        answer: tuple[int, int] = self._answer("timestamp", (TIMESTAMP_CREATE_TIME, 7))
        return answer

    def key(self) -> bytes:
        answer: bytes = self._answer("key", b"k")
        return answer

    def value(self) -> bytes:
        answer: bytes = self._answer("value", b'{"text": "a"}')
        return answer

    def headers(self) -> list[tuple[str, bytes]]:
        answer: list[tuple[str, bytes]] = self._answer("headers", [("h", b"v")])
        return answer


def read(odd: Odd) -> Message:
    return _message(odd, "log")  # type: ignore[arg-type]  # as much of a message as is asked


def after(cause: BaseException) -> SystemError:
    """Give what the interpreter makes of a result with an error that was left behind."""
    error = SystemError("returned a result with an exception set")
    error.__cause__ = cause
    return error


ERRORS: list[Callable[[], Exception]] = [
    lambda: after(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    lambda: ValueError("bad"),
    lambda: TypeError("bad"),
    lambda: OverflowError("bad"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["timestamp", "key", "value", "headers"])
def test_whatever_cannot_be_read_is_left_out_and_the_rest_is_kept(
    what: str, error: Callable[[], Exception]
) -> None:
    whole: dict[str, Any] = {
        "timestamp_ms": 7,
        "key": b"k",
        "value": b'{"text": "a"}',
        "headers": (("h", b"v"),),
    }
    empty: dict[str, Any] = {"timestamp_ms": None, "key": None, "value": None, "headers": ()}
    name = "timestamp_ms" if what == "timestamp" else what
    raised = error()
    cause = raised.__cause__ or raised
    assert read(Odd(**{what: raised})) == DamagedMessage(
        topic="docs",
        partition=3,
        offset=41,
        log="log",
        damage=f"{what}: {type(cause).__name__}: {cause}",
        **(whole | {name: empty[name]}),
    )


def test_headers_that_failed_are_not_asked_for_again_since_the_next_answer_has_null_pointers() -> (
    None
):
    odd = Odd(headers=SystemError("no"))
    assert read(odd).headers == ()
    assert odd.asked.count("headers") == 1


def test_all_that_cannot_be_read_is_named() -> None:
    odd = read(Odd(key=ValueError("one"), value=ValueError("two"), headers=ValueError("three")))
    assert isinstance(odd, DamagedMessage)
    assert odd.damage == "key: ValueError: one; value: ValueError: two; headers: ValueError: three"


def test_want_of_memory_is_no_fault_of_a_message() -> None:
    for what in ("key", "headers"):
        with pytest.raises(MemoryError):
            read(Odd(**{what: MemoryError()}))
    with pytest.raises(MemoryError):
        read(Odd(key=ValueError("first"), value=MemoryError()))


def test_a_damaged_message_is_refused_with_what_could_not_be_read_though_the_rest_is_good() -> None:
    odd = read(Odd(headers=ValueError("bad name")))
    for schema in (Schema(), Schema(format="text"), Schema(format="bytes", text=None)):
        with pytest.raises(BadRecordError, match=r"not be read whole: headers: ValueError: bad na"):
            parse(schema, odd)


NAMES = [b"\xff\xfe", b"a\x80", "é".encode("latin-1"), b"\xed\xa0\x80"]


@pytest.mark.parametrize("name", NAMES)
def test_a_header_whose_name_is_no_text_fails_alone(
    brokers: str, entry_point: EntryPoint, name: bytes
) -> None:
    topic = new_topic(brokers)
    good = b'{"text": "good"}'
    write(brokers, [Outgoing(topic=topic, key=b"before", value=good)])
    headers = [(b"first", b"1"), (name, b"2"), (b"last", b"3")]
    produce_with_headers(brokers, topic, headers, key=b"odd", value=b'{"text": "odd"}')
    write(brokers, [Outgoing(topic=topic, key=b"after", value=good, headers=(("h", b"\xff"),))])
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("odd")
    source = KafkaSource(Cluster(brokers=brokers), [topic], ENDING)
    records = decode("decode", op.input("in", flow, source), schema=Schema())
    op.output("oks", records.oks, oks)
    op.output("errs", records.errs, errs)
    entry_point(flow, epoch_interval=timedelta(milliseconds=5))
    assert [one.key for batch in oks.items for one in batch.records] == ["before", "after"]
    [[failure]] = errs.items
    origin = failure.origin
    assert (origin.topic, origin.partition, origin.offset) == (topic, 0, 1)
    assert (origin.key, origin.value) == (b"odd", b'{"text": "odd"}')
    assert origin.timestamp_ms is not None
    assert "headers: UnicodeDecodeError: 'utf-8' codec can't decode" in failure.reason
    assert b"UnicodeDecodeError" in as_line(failure)
    assert as_message(failure, "dead", "step", 900_000).value == origin.value


def test_a_message_of_an_older_recovery_store_is_one_that_was_read_whole() -> None:
    assert not isinstance(message(), DamagedMessage)
    assert [one.name for one in fields(message())] == [
        *("topic", "partition", "offset", "key", "value", "timestamp_ms", "headers", "log")
    ]
