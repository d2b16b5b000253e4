"""A broker that dies and comes back costs time, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig

from operators import (
    Batch,
    Cluster,
    DeadLetterTopic,
    KafkaSink,
    KafkaSource,
    Message,
    Outgoing,
    Reading,
    Schema,
    decode,
)
from tests.integration.apache_kafka import ApacheKafka
from tests.operators.kafka_things import beside, reading, stored, values, write
from tests.operators.things import (
    NO_TIME,
    EntryPoint,
    Kept,
    Lists,
    numbers,
    on_workers,
    wait_until,
)

pytestmark = pytest.mark.kafka

QUICK = {"reconnect.backoff.ms": "20", "reconnect.backoff.max.ms": "200"}
# So that most of a topic is still to be fetched when the broker dies.
LITTLE_AHEAD = {
    "fetch.message.max.bytes": "4096",
    "queued.max.messages.kbytes": "16",
    "fetch.queue.backoff.ms": "10",
}
BACK_WITHIN_S = 60.0


def documents(topic: str, new: range) -> Iterator[Outgoing]:
    for number in new:
        value = json.dumps({"text": f"text {number}"}).encode()
        yield Outgoing(topic=topic, partition=number % 3, key=b"%d" % number, value=value)


def cluster(kafka: ApacheKafka) -> Cluster:
    return Cluster(brokers=kafka.address, options=QUICK)


def kept_documents(kafka: ApacheKafka, topic: str, dead: str) -> tuple[Dataflow, Kept[Batch]]:
    """Build a flow that keeps all records, and sends what is bad to a dead letter topic."""
    kept: Kept[Batch] = Kept()
    flow = Dataflow("restarts")
    little_ahead = Cluster(brokers=kafka.address, options=QUICK | LITTLE_AHEAD)
    source = KafkaSource(little_ahead, [topic], Reading(max_batch=20))
    messages = op.input("in", flow, source)
    records = decode("decode", messages, schema=Schema())
    op.output("out", records.oks, kept)
    op.output("dead", records.errs, DeadLetterTopic(cluster(kafka), dead))
    return flow, kept


def test_a_flow_reads_on_over_a_restart_each_message_once_and_none_becomes_a_dead_letter(
    kafka: ApacheKafka, entry_point: EntryPoint, recovery_config: RecoveryConfig
) -> None:
    topic, dead = kafka.create(3), kafka.create()
    write(kafka.address, documents(topic, range(3_000)))
    flow, kept = kept_documents(kafka, topic, dead)

    def restart() -> None:
        wait_until(lambda: len(numbers(kept.items)) >= 500)
        kafka.kill()
        assert len(numbers(kept.items)) < 3_000
        kafka.start()
        write(kafka.address, documents(topic, range(3_000, 3_300)))
        wait_until(lambda: len(numbers(kept.items)) >= 3_300, BACK_WITHIN_S)

    with beside(restart):
        entry_point(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    keys = [int(record.key) for batch in kept.items for record in batch.records]
    assert sorted(keys) == list(range(3_300))
    for partition in range(3):
        mine = [key for key in keys if key % 3 == partition]
        assert mine == sorted(mine)
    assert kafka.ends(dead) == [0]


@contextmanager
def restarted(kafka: ApacheKafka) -> Iterator[Callable[[], None]]:
    """Give what kills the broker now and lets it come back meanwhile."""
    threads: list[threading.Thread] = []

    def restart() -> None:
        kafka.kill()
        threads.append(threading.Thread(target=kafka.start))
        threads[-1].start()

    try:
        yield restart
    finally:
        for thread in threads:
            thread.join(BACK_WITHIN_S)
        kafka.wait_until_ready()


@pytest.mark.parametrize("n_workers", [0, 2])
def test_ten_thousand_messages_written_over_a_restart_are_all_there_and_none_twice(
    kafka: ApacheKafka, n_workers: int
) -> None:
    topic = kafka.create(3)
    parts: dict[str, list[tuple[str, tuple[Outgoing, ...]]]] = {"p0": [], "p1": [], "p2": []}
    for number in range(0, 10_000, 20):
        partition = number // 20 % 3
        some = tuple(
            Outgoing(topic=topic, partition=partition, key=None, value=b"%d" % n)
            for n in range(number, number + 20)
        )
        parts[f"p{partition}"].append((f"0{partition}-0", some))
    seen: list[int] = []
    with restarted(kafka) as restart:

        def restart_in_the_middle(one: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
            seen.append(len(one))
            if len(seen) == 200:  # those before it are on their way
                restart()
            return one

        flow = Dataflow("writing")
        up = op.input("in", flow, Lists(parts))
        passed = op.map_value("restart", up, restart_in_the_middle)
        op.output("out", passed, KafkaSink(cluster(kafka), [topic]))
        on_workers(n_workers)(flow)
    assert sum(seen) == 10_000
    assert sum(kafka.ends(topic)) == 10_000
    found = [
        values(stored(kafka.address, topic, n_messages, partition))
        for partition, n_messages in enumerate(kafka.ends(topic))
    ]
    assert sorted(number for some in found for number in some) == list(range(10_000))
    assert all(some == sorted(some) for some in found)


def test_a_flow_that_starts_while_the_broker_is_away_waits_for_it(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = kafka.create(3)
    write(kafka.address, documents(topic, range(30)))
    kafka.kill()
    kafka.launch()
    flow, kept = reading(kafka.address, [topic], options=QUICK)
    on_workers(2)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert offsets_by_partition(kept.items) == {part: list(range(10)) for part in range(3)}
    kafka.wait_until_ready()


def offsets_by_partition(messages: list[Message]) -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = {}
    for one in messages:
        found.setdefault(one.partition, []).append(one.offset)
    return found
