"""What Apache Kafka takes is written whole; what it never will is told."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink

from operators import BrokenFlowError, Cluster, DeadLetterTopic, Failure, KafkaSink, Outgoing
from operators.metrics import DEAD_LETTERS
from tests.integration.apache_kafka import ApacheKafka
from tests.operators.kafka_things import reading, stored
from tests.operators.things import EntryPoint, Lists, X, failure, message, on_workers

pytestmark = pytest.mark.kafka

OVER_THE_LIMIT = b"x" * 2_000_000  # Kafka's own is 1 MiB


def writing(sink: FixedPartitionedSink[X, None], items: Sequence[X]) -> Dataflow:
    flow = Dataflow("writing")
    up = op.input("in", flow, Lists({"p0": [("00-0", one) for one in items]}))
    op.output("out", up, sink)
    return flow


def test_keys_values_headers_and_times_survive_a_way_through_two_topics(
    kafka: ApacheKafka, entry_point: EntryPoint
) -> None:
    first, second = kafka.create(), kafka.create()
    headers = (("a", b"1"), ("a", b"\xff"), ("none", None), ("empty", b""))
    written = (
        Outgoing(topic=first, key=b"k", value=None, timestamp_ms=1_700_000_000_001),
        Outgoing(topic=first, key=None, value=b"", timestamp_ms=1_700_000_000_002),
        Outgoing(topic=first, key=b"", value=b"\xff", headers=headers, timestamp_ms=3),
    )
    cluster = Cluster(brokers=kafka.address)
    entry_point(writing(KafkaSink(cluster, [first]), [written]))
    flow, kept = reading(kafka.address, [first])
    on_workers(0)(flow)
    again = tuple(
        Outgoing(
            topic=second,
            key=one.key,
            value=one.value,
            headers=one.headers,
            timestamp_ms=one.timestamp_ms,
        )
        for one in kept.items
    )
    assert again == tuple(replace(one, topic=second) for one in written)
    entry_point(writing(KafkaSink(cluster, [second]), [again]))
    there = stored(kafka.address, second, 3)
    assert there == [replace(one, topic=second, log="") for one in kept.items]


def test_a_message_over_the_brokers_limit_ends_the_flow_and_says_so(
    kafka: ApacheKafka, entry_point: EntryPoint
) -> None:
    topic = kafka.create()
    large = Outgoing(topic=topic, key=b"k", value=OVER_THE_LIMIT)
    with pytest.raises((BrokenFlowError, RuntimeError)) as failed:
        entry_point(writing(KafkaSink(Cluster(brokers=kafka.address), [topic]), [(large,)]))
    told = "".join(traceback.format_exception(failed.value))
    assert f"BrokenFlowError: Kafka refused 1 messages, the first: {topic}: " in told
    assert "MSG_SIZE_TOO_LARGE" in told
    assert kafka.ends(topic) == [0]


def test_a_dead_letter_over_the_brokers_limit_leaves_its_value_out(
    kafka: ApacheKafka, entry_point: EntryPoint
) -> None:
    topic = kafka.create()
    before = DEAD_LETTERS._value.get()
    large = replace(failure(1), origin=message(OVER_THE_LIMIT, key=b"large", offset=1))
    letters: list[tuple[Failure, ...]] = [(failure(0), large), (failure(2),)]
    entry_point(writing(DeadLetterTopic(Cluster(brokers=kafka.address), topic), letters))
    first, second, third = stored(kafka.address, topic, 3)
    assert (first.value, second.value, third.value) == (b"bad", None, b"bad")
    assert second.key == b"large"
    assert dict(second.headers)["__connect.errors.value.omitted.bytes"] == b"2000000"
    assert DEAD_LETTERS._value.get() - before == 3


def test_many_dead_letters_just_below_the_limit_are_all_taken(kafka: ApacheKafka) -> None:
    topic = kafka.create()
    letters = tuple(
        replace(failure(number), origin=message(b"x" * 890_000, offset=number))
        for number in range(8)
    )
    on_workers(0)(writing(DeadLetterTopic(Cluster(brokers=kafka.address), topic), [letters]))
    there = stored(kafka.address, topic, len(letters))
    assert [dict(one.headers)["__connect.errors.offset"] for one in there] == [
        b"%d" % number for number in range(8)
    ]
    assert {len(one.value or b"") for one in there} == {890_000}
