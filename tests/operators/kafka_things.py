"""What the tests of Kafka share: topics of a real broker, its pauses, flows that read and write."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import bytewax.operators as op
import psutil
from bytewax.dataflow import Dataflow
from confluent_kafka import Consumer, Producer, TopicPartition

from flows.local_broker import create_topic
from operators import STOP, Cluster, KafkaSource, Message, Outgoing, Reading
from operators.kafka.source import _message
from tests.operators.things import Kept, wait_until

ENDING = Reading(tail=False)


def new_topic(brokers: str, partitions: int = 1) -> str:
    """Create a topic that no other test has."""
    name = f"t{uuid.uuid4().hex[:12]}"
    create_topic(brokers, name, partitions)
    return name


def write(brokers: str, messages: Iterable[Outgoing]) -> None:
    """Write messages and wait until the broker has them."""
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 0, "message.max.bytes": 1 << 26}
    )
    for one in messages:
        producer.produce(
            one.topic,
            key=one.key,
            value=one.value,
            headers=list(one.headers),
            partition=one.partition or 0,
            timestamp=one.timestamp_ms or 0,
        )
    assert producer.flush(20) == 0


def fill(brokers: str, topic: str, values: Iterable[int], partition: int = 0) -> None:
    """Write a number as each value."""
    write(
        brokers,
        [Outgoing(topic=topic, partition=partition, key=b"k", value=b"%d" % n) for n in values],
    )


def stored(brokers: str, topic: str, n_messages: int, partition: int = 0) -> list[Message]:
    """Read so many messages of a partition, from its start."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "check"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Message] = []

    def all_there() -> bool:
        for raw in consumer.consume(1000, timeout=0.1):
            assert raw.error() is None, raw.error()
            found.append(_message(raw))
        return len(found) >= n_messages

    try:
        wait_until(all_there)
    finally:
        consumer.close()
    return found


def reading(
    brokers: str, topics: list[str], how: Reading = ENDING, options: Mapping[str, str] | None = None
) -> tuple[Dataflow, Kept[Message]]:
    """Build a flow that keeps what it reads."""
    kept: Kept[Message] = Kept()
    flow = Dataflow("reading")
    source = KafkaSource(Cluster(brokers=brokers, options=options or {}), topics, how)
    op.output("out", op.key_on("key", op.input("in", flow, source), lambda _: "k"), kept)
    return flow, kept


def values(messages: Iterable[Message], partition: int | None = None) -> list[int]:
    """Give the numbers that were written, of one partition or of all."""
    return [
        int(message.value or b"-1")
        for message in messages
        if partition is None or message.partition == partition
    ]


@contextmanager
def beside(act: Callable[[], object]) -> Iterator[None]:
    """Act in a thread while the block's flow runs, then ask the flow to end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  raised again below
            failed.append(error)
        finally:
            STOP.request()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
    if failed:
        raise failed[0]


def frozen(brokers: str) -> Callable[[], None]:
    """Stop a broker of this process where it stands; the answer lets it go on."""
    [broker] = [
        child
        for child in psutil.Process().children()
        if any(brokers in word for word in child.cmdline())
    ]
    broker.send_signal(signal.SIGSTOP)
    return lambda: broker.send_signal(signal.SIGCONT)
