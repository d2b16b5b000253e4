"""What a topic has is read once and in order, within a budget, and with all that came with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from bytewax.recovery import RecoveryConfig
from confluent_kafka import Consumer, TopicPartition
from prometheus_client import REGISTRY

from fastembed_stream import SettingError
from operators import Cluster, KafkaSource, Message, Outgoing, Reading
from operators.kafka import source
from operators.kafka.source import _SharedConsumer
from tests.operators.kafka_things import beside, fill, new_topic, reading, stored, values, write
from tests.operators.things import NO_TIME, EntryPoint, on_workers, wait_until


def polled(next_batch: Callable[[], Iterable[Message]], at_least: int) -> list[Message]:
    """Poll a partition by hand until it has given so many."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(next_batch())
        return len(found) >= at_least

    wait_until(enough)
    return found


def test_all_messages_of_all_partitions_come_once_and_in_order(
    brokers: str, entry_point: EntryPoint
) -> None:
    topics = [new_topic(brokers, 3), new_topic(brokers, 2)]
    for topic, n_partitions in zip(topics, (3, 2), strict=True):
        for partition in range(n_partitions):
            fill(brokers, topic, range(40), partition)
    flow, kept = reading(brokers, topics, Reading(tail=False, max_batch=7, max_epoch_records=20))
    entry_point(flow, epoch_interval=timedelta(milliseconds=5))
    assert len(kept.items) == 5 * 40
    for topic, n_partitions in zip(topics, (3, 2), strict=True):
        mine = [message for message in kept.items if message.topic == topic]
        for partition in range(n_partitions):
            assert values(mine, partition) == list(range(40))


def test_the_partitions_of_a_worker_share_one_consumer(
    brokers: str, entry_point: EntryPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers, 5)
    fill(brokers, topic, range(3))
    made: list[_SharedConsumer] = []

    class Counted(_SharedConsumer):
        def __init__(self, cluster: Cluster, how: Reading) -> None:
            super().__init__(cluster, how)
            made.append(self)

    monkeypatch.setattr(source, "_SharedConsumer", Counted)
    flow, kept = reading(brokers, [topic])
    entry_point(flow)
    assert values(kept.items) == [0, 1, 2]
    assert sorted(len(one._queues) for one in made) in ([5], [2, 3])


def test_a_partition_gives_no_more_in_an_epoch_than_its_budget(brokers: str) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(25))
    source = KafkaSource(Cluster(brokers=brokers), [topic], Reading(max_epoch_records=10))
    part = source.build_part("in", f"{topic}/0", None)
    given = polled(part.next_batch, 10)
    assert values(given) == list(range(10))
    assert [part.next_batch() for _ in range(20)] == [[]] * 20
    assert part.snapshot() == 10
    assert values(polled(part.next_batch, 10)) == list(range(10, 20))
    assert part.snapshot() == 20
    assert values(polled(part.next_batch, 5)) == list(range(20, 25))
    part.close()


def test_a_partition_gives_no_more_bytes_in_an_epoch_than_one_batch_over_its_budget(
    brokers: str,
) -> None:
    topic = new_topic(brokers)
    write(brokers, [Outgoing(topic=topic, key=b"k", value=b"x" * 100) for _ in range(10)])
    how = Reading(max_epoch_bytes=250, max_batch=2)
    part = KafkaSource(Cluster(brokers=brokers), [topic], how).build_part("in", f"{topic}/0", None)
    assert len(polled(part.next_batch, 4)) == 4
    assert [part.next_batch() for _ in range(20)] == [[]] * 20
    part.snapshot()
    assert len(polled(part.next_batch, 4)) == 4
    part.close()


def test_the_partitions_of_a_worker_share_what_may_be_handed_on_at_once(brokers: str) -> None:
    topic = new_topic(brokers, 4)
    for partition in range(4):
        fill(brokers, topic, range(50), partition)
    source = KafkaSource(Cluster(brokers=brokers), [topic], Reading(max_batch=20))
    parts = [source.build_part("in", f"{topic}/{number}", None) for number in range(4)]
    sizes: list[int] = []

    def all_read() -> bool:
        sizes.append(sum(len(list(part.next_batch())) for part in parts))
        return sum(sizes) == 200

    wait_until(all_read)
    assert max(sizes) <= 20
    for part in parts:
        part.close()


def test_a_resumed_source_goes_on_at_its_offsets_on_any_number_of_workers(
    brokers: str, recovery_config: RecoveryConfig
) -> None:
    topic = new_topic(brokers, 3)
    for run, n_workers in enumerate([1, 2, 1]):
        for partition in range(3):
            fill(brokers, topic, range(10 * run, 10 * run + 10), partition)
        flow, kept = reading(brokers, [topic])
        on_workers(n_workers)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
        for partition in range(3):
            assert values(kept.items, partition) == list(range(10 * run, 10 * run + 10))


def test_a_request_to_stop_ends_a_source_that_would_wait_for_more(
    brokers: str, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers, 2)
    fill(brokers, topic, range(5), partition=1)
    flow, kept = reading(brokers, [topic], Reading())
    with beside(lambda: wait_until(lambda: len(kept.items) == 5)):
        entry_point(flow)
    assert values(kept.items) == list(range(5))


def test_a_source_that_starts_at_the_latest_reads_only_what_comes_after(mock_cluster: str) -> None:
    fill(mock_cluster, "latest", range(5))
    source = KafkaSource(Cluster(brokers=mock_cluster), ["latest"], Reading(start="latest"))
    part = source.build_part("in", "latest/0", None)
    assert part.next_batch() == []
    fill(mock_cluster, "latest", range(5, 8))
    assert values(polled(part.next_batch, 3)) == [5, 6, 7]
    assert part.snapshot() == 8
    part.close()


def test_a_message_keeps_its_key_value_headers_and_time(brokers: str) -> None:
    topic = new_topic(brokers)
    headers = (("a", b"1"), ("a", b"\xff"), ("none", None))
    bare = Outgoing(topic=topic, key=None, value=None)
    full = Outgoing(
        topic=topic, key=b"\x00k", value=b"\xff", headers=headers, timestamp_ms=1_700_000_000_123
    )
    write(brokers, [bare, full])
    flow, kept = reading(brokers, [topic])
    on_workers(0)(flow)
    [first, second] = kept.items
    assert (first.key, first.value, first.headers, first.offset) == (None, None, (), 0)
    assert first.timestamp_ms is not None
    assert second == Message(
        topic=topic,
        partition=0,
        offset=1,
        key=b"\x00k",
        value=b"\xff",
        headers=headers,
        timestamp_ms=1_700_000_000_123,
    )
    assert stored(brokers, topic, 2) == kept.items


def test_offsets_of_finished_epochs_are_shown_to_lag_tools(brokers: str) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(7))
    group = f"group-of-{topic}"
    asker = Consumer({"bootstrap.servers": brokers, "group.id": group})

    def committed() -> bool:
        [where] = asker.committed([TopicPartition(topic, 0)], timeout=5)
        return where.offset == 7

    flow, _ = reading(brokers, [topic], Reading(group=group))
    with beside(lambda: wait_until(committed)):
        on_workers(0)(flow, epoch_interval=NO_TIME)
    asker.close()
    labels = {"topic": topic, "partition": "0"}
    assert REGISTRY.get_sample_value("stream_committed_offset", labels) == 7


def test_an_unknown_topic_is_refused_and_those_that_exist_are_named(brokers: str) -> None:
    topic = new_topic(brokers)
    source = KafkaSource(Cluster(brokers=brokers), ["no-such-topic"])
    with pytest.raises(SettingError) as refused:
        source.list_parts()
    assert "No topic 'no-such-topic' at the brokers. Create it first" in str(refused.value)
    assert "they have: [" in str(refused.value)
    assert KafkaSource(Cluster(brokers=brokers), [topic]).list_parts() == [f"{topic}/0"]


def test_an_option_that_librdkafka_does_not_know_is_refused(brokers: str) -> None:
    cluster = Cluster(brokers=brokers, options={"no.such.option": "1"})
    with pytest.raises(SettingError, match=r"Kafka option refused: .*no\.such\.option"):
        KafkaSource(cluster, ["any"]).list_parts()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"start": "middle"}, "start='middle': expected 'earliest' or 'latest'"),
        ({"on_gap": "ignore"}, "on_gap='ignore': expected 'fail' or 'continue'"),
        ({"max_epoch_records": 0}, "max_epoch_records=0"),
        ({"max_epoch_bytes": 0}, "max_epoch_bytes=0"),
        ({"max_batch": 0}, "max_batch=0"),
    ],
)
def test_a_way_of_reading_that_cannot_be_right_is_refused(
    wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Reading(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("topics", [[], [""], ["a", ""]])
def test_a_source_without_topics_is_refused(topics: list[str]) -> None:
    with pytest.raises(SettingError, match="Which topics"):
        KafkaSource(Cluster(brokers="localhost:1"), topics)


def test_a_cluster_without_brokers_is_refused() -> None:
    with pytest.raises(SettingError, match="Where is Kafka"):
        Cluster(brokers=" ")
