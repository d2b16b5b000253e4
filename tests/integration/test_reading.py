"""What Apache Kafka has is read once, in order, and whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from bytewax.recovery import RecoveryConfig
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from fastembed_stream import SettingError
from operators import Cluster, KafkaSink, KafkaSource, Message, Outgoing, Reading
from tests.integration.apache_kafka import ApacheKafka
from tests.operators.kafka_things import beside, fill, reading, values, write
from tests.operators.things import NO_TIME, EntryPoint, on_workers, wait_until

pytestmark = pytest.mark.kafka


def test_all_messages_of_all_partitions_come_once_and_in_order(
    kafka: ApacheKafka, entry_point: EntryPoint
) -> None:
    topics = {kafka.create(3): 3, kafka.create(2): 2}
    for topic, n_partitions in topics.items():
        for partition in range(n_partitions):
            fill(kafka.address, topic, range(500), partition)
    how = Reading(tail=False, max_batch=50, max_epoch_records=100)
    flow, kept = reading(kafka.address, list(topics), how)
    entry_point(flow, epoch_interval=timedelta(milliseconds=5))
    assert len(kept.items) == 5 * 500
    for topic, n_partitions in topics.items():
        mine = [message for message in kept.items if message.topic == topic]
        for partition in range(n_partitions):
            assert values(mine, partition) == list(range(500))


def test_a_resumed_flow_goes_on_at_its_offsets_on_any_number_of_workers(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = kafka.create(3)
    for run, n_workers in enumerate([1, 2, 0]):
        new = range(100 * run, 100 * run + 100)
        for partition in range(3):
            fill(kafka.address, topic, new, partition)
        flow, kept = reading(kafka.address, [topic])
        on_workers(n_workers)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
        for partition in range(3):
            assert values(kept.items, partition) == list(new)


def test_messages_of_aborted_transactions_are_never_read(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = kafka.create()
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    producer.init_transactions(20)
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, value=b"%d" % number)
        producer.flush(10)
        if number % 2:
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)
    flow, kept = reading(kafka.address, [topic])
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert values(kept.items) == [0, 2, 4]

    fill(kafka.address, topic, [6])  # the markers of transactions have offsets, but are no messages
    flow, kept = reading(kafka.address, [topic])
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert values(kept.items) == [6]


def test_a_source_that_starts_at_the_latest_reads_only_what_comes_after(
    kafka: ApacheKafka,
) -> None:
    topic = kafka.create()
    fill(kafka.address, topic, range(50))
    source = KafkaSource(Cluster(brokers=kafka.address), [topic], Reading(start="latest"))
    part = source.build_part("in", f"{topic}/0", None)
    found: list[Message] = list(part.next_batch())
    fill(kafka.address, topic, range(50, 53))

    def all_read() -> bool:
        found.extend(part.next_batch())
        return len(found) == 3

    wait_until(all_read)
    part.close()
    assert values(found) == [50, 51, 52]


def test_keys_values_headers_and_times_come_as_they_were_written(kafka: ApacheKafka) -> None:
    topic = kafka.create()
    headers = (("a", b"1"), ("a", b"\xff"), ("none", None), ("empty", b""))
    written = [
        Outgoing(topic=topic, key=b"k", value=None, timestamp_ms=1),
        Outgoing(topic=topic, key=None, value=b"", timestamp_ms=2),
        Outgoing(topic=topic, key=b"", value=b"\xff", headers=headers, timestamp_ms=3),
    ]
    write(kafka.address, written)
    flow, kept = reading(kafka.address, [topic])
    on_workers(0)(flow)
    assert [replace(one, log="") for one in kept.items] == [
        Message(
            topic=topic,
            partition=0,
            offset=offset,
            key=one.key,
            value=one.value,
            timestamp_ms=one.timestamp_ms,
            headers=one.headers,
        )
        for offset, one in enumerate(written)
    ]


def test_offsets_of_finished_epochs_are_shown_to_lag_tools(
    kafka: ApacheKafka, entry_point: EntryPoint
) -> None:
    topic = kafka.create(2)
    for partition, n_messages in enumerate([7, 30]):
        fill(kafka.address, topic, range(n_messages), partition)
    group = f"group-of-{topic}"

    def committed() -> dict[int, int]:
        asked = [ConsumerGroupTopicPartitions(group)]
        answer = kafka.admin.list_consumer_group_offsets(asked)[group].result(10)
        parts: list[TopicPartition] = answer.topic_partitions
        return {part.partition: part.offset for part in parts}

    flow, _ = reading(kafka.address, [topic], Reading(group=group))
    with beside(lambda: wait_until(lambda: committed() == {0: 7, 1: 30})):
        entry_point(flow, epoch_interval=NO_TIME)


def test_an_unknown_topic_is_refused_and_not_made_by_the_question(kafka: ApacheKafka) -> None:
    known = kafka.create()
    source = KafkaSource(Cluster(brokers=kafka.address), [known, "no-such-topic"])
    with pytest.raises(SettingError, match="No topic 'no-such-topic' at the brokers") as refused:
        source.list_parts()
    assert "they have: [" in str(refused.value)
    with pytest.raises(SettingError, match="No topic 'no-such-topic' at the brokers"):
        KafkaSink(Cluster(brokers=kafka.address), ["no-such-topic"]).list_parts()
    assert "no-such-topic" not in kafka.topics()
