"""A message counts as written when the broker has it; one that it will never take ends the flow."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from confluent_kafka import Producer
from typing_extensions import override

from fastembed_stream import SettingError
from flows.local_broker import running_broker
from operators import STOP, BrokenFlowError, Cluster, KafkaSink, Outgoing
from operators.kafka import sink
from tests.operators.kafka_things import frozen, new_topic, stored, values
from tests.operators.things import EntryPoint, Lists, wait_until

Outgoings = tuple[Outgoing, ...]


def writing(cluster: Cluster, topics: Sequence[str], batches: Sequence[Outgoings]) -> Dataflow:
    flow = Dataflow("writing")
    lists = {f"p{n}": [("00-0", one)] for n, one in enumerate(batches)}
    op.output("out", op.input("in", flow, Lists(lists)), KafkaSink(cluster, topics))
    return flow


def numbered(topic: str, numbers: range, partition: int | None = 0) -> Outgoings:
    return tuple(
        Outgoing(topic=topic, partition=partition, key=b"%d" % n, value=b"%d" % n) for n in numbers
    )


def test_messages_arrive_with_all_that_they_carry(brokers: str, entry_point: EntryPoint) -> None:
    topic = new_topic(brokers, 2)
    full = Outgoing(
        topic=topic,
        partition=1,
        key=b"\xff",
        value=None,
        headers=(("a", b"1"), ("a", None)),
        timestamp_ms=1_700_000_000_123,
    )
    batches = [numbered(topic, range(100)), (full,)]
    entry_point(writing(Cluster(brokers=brokers), [topic], batches))
    assert values(stored(brokers, topic, 100)) == list(range(100))
    [one] = stored(brokers, topic, 1, partition=1)
    assert (one.key, one.value, one.headers) == (full.key, None, full.headers)
    assert one.timestamp_ms == full.timestamp_ms


def test_without_a_partition_the_key_decides(brokers: str) -> None:
    topic = new_topic(brokers, 2)
    part = KafkaSink(Cluster(brokers=brokers), [topic]).build_part("out", "00", None)
    same = tuple(Outgoing(topic=topic, key=b"same", value=b"%d" % n) for n in range(10))
    part.write_batch([same, numbered(topic, range(20), partition=None)])
    part.snapshot()
    sizes: list[list[int]] = [[], []]

    def all_there() -> bool:
        for partition in (0, 1):
            sizes[partition] = [
                int(one.value or b"-1")
                for one in stored(brokers, topic, 1, partition)
                if one.key == b"same"
            ]
        return sum(map(len, sizes)) == 10

    wait_until(all_there)
    assert sorted(map(len, sizes)) == [0, 10]


def test_a_full_queue_is_waited_for_and_nothing_is_lost(
    brokers: str, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers)
    small = Cluster(brokers=brokers, options={"queue.buffering.max.messages": "10"})
    entry_point(writing(small, [topic], [numbered(topic, range(500))]))
    assert values(stored(brokers, topic, 500)) == list(range(500))


def test_a_snapshot_returns_when_the_broker_has_all_and_not_before() -> None:
    with running_broker() as address:
        topic = new_topic(address)
        part = KafkaSink(Cluster(brokers=address), [topic]).build_part("out", "00", None)
        go_on = frozen(address)
        done = threading.Event()

        def acknowledge() -> None:
            part.snapshot()
            done.set()

        part.write_batch([numbered(topic, range(5))])
        thread = threading.Thread(target=acknowledge, daemon=True)
        thread.start()
        assert not done.wait(0.3)
        go_on()
        assert done.wait(20)
        assert values(stored(address, topic, 5)) == list(range(5))


def test_an_outage_that_outlasts_the_time_to_drain_fails_the_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_broker() as address:
        topic = new_topic(address)
        part = KafkaSink(Cluster(brokers=address), [topic]).build_part("out", "00", None)
        go_on = frozen(address)
        try:
            part.write_batch([numbered(topic, range(5))])
            monkeypatch.setattr(STOP, "drain_s", 0.0)
            STOP.request()
            started = time.monotonic()
            with pytest.raises(BrokenFlowError, match="has not acknowledged 5 messages, and the"):
                part.snapshot()
            assert time.monotonic() - started < 5
        finally:
            go_on()


class Impatient(Cluster):
    """Gives up messages, as no options let a cluster do."""

    @override
    def producer(self, own: Mapping[str, str | int | bool]) -> Producer:
        return super().producer({**own, "message.timeout.ms": 200})


def test_a_message_that_fails_after_it_was_handed_over_fails_the_snapshot() -> None:
    with running_broker() as address:
        topic = new_topic(address)
        impatient = Impatient(brokers=address)
        part = KafkaSink(impatient, [topic]).build_part("out", "00", None)
        go_on = frozen(address)
        try:
            part.write_batch([numbered(topic, range(3))])
            with pytest.raises(BrokenFlowError, match=rf"Kafka refused 3 messages.*{topic}: .*tim"):
                part.snapshot()
        finally:
            go_on()


def test_a_refused_message_ends_the_flow(brokers: str, entry_point: EntryPoint) -> None:
    topic = new_topic(brokers)
    with pytest.raises((BrokenFlowError, RuntimeError)):
        entry_point(
            writing(Cluster(brokers=brokers), [topic], [numbered(topic, range(1), partition=99)])
        )


def test_a_message_over_the_limit_ends_the_flow_and_names_the_step(brokers: str) -> None:
    topic = new_topic(brokers)
    small = Cluster(brokers=brokers, options={"message.max.bytes": "2000"})
    part = KafkaSink(small, [topic]).build_part("flow.out", "00", None)
    with pytest.raises(BrokenFlowError, match=r"Step flow\.out: Kafka cannot take a message"):
        part.write_batch([(Outgoing(topic=topic, key=None, value=b"x" * 3000),)])


def test_a_sink_to_a_topic_that_does_not_exist_is_refused_at_the_start(brokers: str) -> None:
    sink = KafkaSink(Cluster(brokers=brokers), ["no-topic-of-a-sink"])
    with pytest.raises(SettingError, match="No topic 'no-topic-of-a-sink'"):
        sink.list_parts()


def test_a_long_wait_for_acknowledgements_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow:
        answers = iter([3, 2, 0])

        def flush(self, _: float) -> int:
            return next(self.answers)

    monkeypatch.setattr(sink, "CALL_TIMEOUT_S", -1.0)
    sink._Outbox(Slow()).flush()  # type: ignore[arg-type]  # as much of a producer as is asked
    told = [line for line in caplog.messages if "has not acknowledged" in line]
    assert [line.split(" for ")[0] for line in told] == [
        "Kafka has not acknowledged 3 messages",
        "Kafka has not acknowledged 2 messages",
    ]
