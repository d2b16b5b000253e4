"""What a topic has is read once and in order, within a budget, and with all that came with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY

from fastembed_stream import SettingError
from flows.local_broker import create_topic
from operators import Cluster, KafkaSource, Message, Outgoing, Reading, outages
from operators.kafka import source
from operators.kafka.consuming import SharedConsumer
from tests.operators.kafka_things import beside, fill, new_topic, reading, stored, values, write
from tests.operators.things import NO_TIME, EntryPoint, Kept, on_workers, wait_until


def polled(next_batch: Callable[[], Iterable[Message]], at_least: int) -> list[Message]:
    """Poll a partition by hand until it has given so many."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(next_batch())
        return len(found) >= at_least

    wait_until(enough)
    return found


def made_again(brokers: str, topic: str, partitions: int) -> None:
    """Delete a topic and create it anew."""
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.delete_topics([topic])[topic].result(timeout=10)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics)
    create_topic(brokers, topic, partitions)


class Told:
    """An admin client that answers as it is told."""

    def __init__(self, answers: Iterable[KafkaError | Uuid]) -> None:
        self._answers = iter(answers)

    def describe_topics(self, topics: TopicCollection, **_: float) -> dict[str, Future[object]]:
        [name] = topics.topic_names
        future: Future[object] = Future()
        answer = next(self._answers)
        if isinstance(answer, KafkaError):
            future.set_exception(KafkaException(answer))
        else:
            future.set_result(SimpleNamespace(topic_id=answer))
        return {name: future}


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
    made: list[SharedConsumer] = []

    class Counted(SharedConsumer):
        def __init__(self, cluster: Cluster, how: Reading) -> None:
            super().__init__(cluster, how)
            made.append(self)

    monkeypatch.setattr(source, "SharedConsumer", Counted)
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
        log=second.log,
    )
    assert stored(brokers, topic, 2) == [replace(one, log="") for one in kept.items]


def test_messages_of_a_topic_made_again_under_its_name_have_another_source(
    brokers: str, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers, 2)
    sources: list[set[str]] = []
    for run in range(3):  # made again before the third
        if run == 2:
            made_again(brokers, topic, 2)
        for partition in range(2):
            fill(brokers, topic, range(2), partition)
        flow, kept = reading(brokers, [topic])
        entry_point(flow)
        sources.append({message.source for message in kept.items})
    assert sources[0] == sources[1]
    assert not sources[0] & sources[2]
    for some in sources:
        assert sorted(name.partition("@")[0] for name in some) == [f"{topic}/0", f"{topic}/1"]
        assert len({name.partition("@")[2] for name in some} - {""}) == 1


def test_brokers_without_a_controller_to_ask_give_no_id_and_no_noise(
    mock_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(mock_cluster, "nameless", range(1))
    with caplog.at_level(logging.INFO, "operators"):
        flow, kept = reading(mock_cluster, ["nameless"])
        on_workers(0)(flow)
    assert [message.source for message in kept.items] == ["nameless/0"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    "answer", [KafkaError(KafkaError.UNSUPPORTED_VERSION), Uuid(0, 0)], ids=["refuses", "zero"]
)
def test_brokers_that_know_no_ids_give_none(
    brokers: str, answer: KafkaError | Uuid, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(1))
    monkeypatch.setattr(Cluster, "admin", lambda _: Told([answer]))
    flow, kept = reading(brokers, [topic])
    on_workers(0)(flow)
    assert [message.source for message in kept.items] == [f"{topic}/0"]


def test_the_id_of_a_topic_is_waited_for(brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(1))
    away = KafkaError(KafkaError._TIMED_OUT)
    told = Told([away, away, Uuid(0, 1)])
    slept: list[float] = []
    monkeypatch.setattr(outages, "_sleep_unless_stopped", slept.append)
    monkeypatch.setattr(Cluster, "admin", lambda _: told)
    flow, kept = reading(brokers, [topic])
    on_workers(0)(flow)
    assert [message.source for message in kept.items] == [f"{topic}/0@{Uuid(0, 1)}"]
    assert len(slept) == 2


def test_one_source_feeds_two_inputs_all_that_there_is(
    brokers: str, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers, 3)
    for partition in range(3):
        fill(brokers, topic, range(20), partition)
    flow = Dataflow("twice")
    source = KafkaSource(Cluster(brokers=brokers), [topic], Reading(tail=False))
    both: list[Kept[Message]] = [Kept(), Kept()]
    for number, kept in enumerate(both):
        keyed = op.key_on(f"key{number}", op.input(f"in{number}", flow, source), lambda _: "k")
        op.output(f"out{number}", keyed, kept)
    entry_point(flow)
    for kept in both:
        assert [values(kept.items, partition) for partition in range(3)] == [list(range(20))] * 3


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
        (
            {"isolation": "none"},
            "isolation='none': expected 'read_committed' or 'read_uncommitted'",
        ),
        ({"refresh_s": 0}, "refresh_s=0: expected seconds, more than 0"),
        ({"refresh_s": float("nan")}, "refresh_s=nan"),
        ({"refresh_s": float("inf")}, "refresh_s=inf"),
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


@pytest.mark.parametrize(
    "name",
    [
        "bootstrap.servers",
        "metadata.broker.list",
        "group.id",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "enable.idempotence",
        "message.timeout.ms",
        "delivery.timeout.ms",
    ],
)
def test_an_option_that_delivery_rests_on_is_refused_with_its_name_and_why(name: str) -> None:
    with pytest.raises(SettingError, match=rf"Kafka option '{name}' is not free: .+\. Leave"):
        Cluster(brokers="localhost:1", options={name: "1"})


def test_other_options_are_free(brokers: str) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(3))
    free = {
        "linger.ms": "1",
        "queued.max.messages.kbytes": "64",
        "security.protocol": "PLAINTEXT",
        "sasl.username": "me",
        "message.max.bytes": "100000",
    }
    flow, kept = reading(brokers, [topic], options=free)
    on_workers(0)(flow)
    assert values(kept.items) == [0, 1, 2]
