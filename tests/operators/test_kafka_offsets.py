"""An offset is a place in one log; of a topic made again, it is told like a gap."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition, Uuid
from prometheus_client import REGISTRY

from operators import STOP, BrokenFlowError, Cluster, Message, Reading
from operators.kafka import OnGap, consuming, source
from operators.kafka.consuming import SharedConsumer
from operators.kafka.offsets import Offset, log_named
from operators.kafka.watching import TopicWatch
from tests.operators.kafka_things import beside, fill, new_topic, reading, values
from tests.operators.things import NO_TIME, EntryPoint, on_workers, wait_until

OLD, NEW = Uuid(0, 1), Uuid(0, 2)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_offset_is_an_integer_that_knows_its_log_also_in_another_process() -> None:
    offset = Offset(7, "log")
    again = pickle.loads(pickle.dumps(offset))  # noqa: S301  our own bytes
    assert (offset, again, f"{again}", "%d" % again) == (7, 7, "7", "7")  # noqa: UP031  as logged
    assert log_named(again) == "log"
    assert log_named(7) == log_named(None) == log_named(Offset(7)) == ""


def run(
    brokers: str,
    topic: str,
    recovery_config: RecoveryConfig,
    on_gap: OnGap = "fail",
    n_workers: int = 0,
) -> list[Message]:
    flow, kept = reading(brokers, [topic], Reading(tail=False, on_gap=on_gap))
    on_workers(n_workers)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    return kept.items


@pytest.mark.parametrize("n_workers", [0, 1, 2])
def test_a_topic_made_again_that_has_outgrown_the_offset_is_told_and_read_from_its_start(
    brokers: str,
    recovery_config: RecoveryConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    n_workers: int,
) -> None:
    topic = new_topic(brokers, 2)
    fill(brokers, topic, range(5))
    assert len(run(brokers, topic, recovery_config)) == 5
    fill(brokers, topic, range(5, 8))  # as if all eight were of the new log
    monkeypatch.setattr(consuming, "log_of", lambda *_: "another")
    for _ in range(2):  # a failure changes nothing
        with pytest.raises(RuntimeError) as failed:  # Bytewax', with the source's as its cause
            run(brokers, topic, recovery_config)
        said = str(failed.value.__cause__)
        assert f"{topic}/" in said
        assert "the topic was made again" in said
        assert "set on_gap='continue'" in said
    before = counted("stream_gaps_total", topic=topic, partition="0")
    with caplog.at_level(logging.WARNING, "operators.kafka"):
        found = run(brokers, topic, recovery_config, "continue", n_workers)
    assert values(found) == list(range(8))
    assert any(f"{topic}/0: resume at 5 wanted, the topic" in line for line in caplog.messages)
    assert counted("stream_gaps_total", topic=topic, partition="0") == before + 1
    assert run(brokers, topic, recovery_config) == []  # the new log is known from then on


def test_a_recovery_store_of_plain_offsets_goes_on_and_names_the_log_from_then_on(
    brokers: str, recovery_config: RecoveryConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(5))
    with monkeypatch.context() as before:
        before.setattr(source, "Offset", lambda offset, _: offset)
        assert len(run(brokers, topic, recovery_config)) == 5
    fill(brokers, topic, range(5, 7))
    assert values(run(brokers, topic, recovery_config)) == [5, 6]
    monkeypatch.setattr(consuming, "log_of", lambda *_: "another")
    with pytest.raises(RuntimeError):
        run(brokers, topic, recovery_config)


def test_a_log_whose_name_cannot_be_had_now_is_taken_for_that_of_the_last_time(
    brokers: str, recovery_config: RecoveryConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(5))
    [first, *_] = run(brokers, topic, recovery_config)
    fill(brokers, topic, range(5, 7))
    with monkeypatch.context() as unknown:
        unknown.setattr(consuming, "log_of", lambda *_: "")
        found = run(brokers, topic, recovery_config)
    assert values(found) == [5, 6]
    assert {one.source for one in found} == {first.source}
    assert run(brokers, topic, recovery_config) == []


@pytest.mark.parametrize("on_gap", ["fail", "continue"])
def test_a_log_that_ends_before_the_place_is_noticed_where_brokers_neither_say_so_nor_have_ids(
    brokers: str, monkeypatch: pytest.MonkeyPatch, on_gap: OnGap
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(3))
    monkeypatch.setattr(consuming, "log_of", lambda *_: "")
    how = Reading(on_gap=on_gap, refresh_s=0.01)
    reader = source.KafkaSource(Cluster(brokers=brokers), [topic], how)
    part = reader.build_part("in", f"{topic}/0", 5)
    found: list[Message] = []

    def all_read() -> bool:
        found.extend(part.next_batch())
        return len(found) == 3

    if on_gap == "continue":
        wait_until(all_read)
        assert part.snapshot() == 3
    else:
        with pytest.raises(BrokenFlowError, match="resume at offset 5; the log ends at"):
            wait_until(all_read)
    part.close()


def test_a_place_after_a_gap_that_was_jumped_is_after_it_before_anything_is_read(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    monkeypatch.setattr(SharedConsumer, "_watermarks", lambda *_: (50, 50))
    how = Reading(on_gap="continue")
    part = source.KafkaSource(Cluster(brokers=brokers), [topic], how).build_part(
        "in", f"{topic}/0", 10
    )
    assert part.snapshot() == 50
    part.close()


def kept_places(brokers: str, topic: str, recovery_config: RecoveryConfig) -> list[int]:
    """Run a flow that finds nothing new, and give where it resumed."""
    found: list[int] = []

    class Told(source._Partition):
        def __init__(self, shared: SharedConsumer, *rest: Any) -> None:
            super().__init__(shared, *rest)
            found.append(shared.position(topic, 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_Partition", Told)
        assert run(brokers, topic, recovery_config) == []
    return found


def committed_transactions(brokers: str, topic: str, numbers: Iterable[int]) -> None:
    """Write each number in a transaction of its own."""
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": topic})
    producer.init_transactions(20)
    for number in numbers:
        producer.begin_transaction()
        producer.produce(topic, value=b"%d" % number, partition=0)
        producer.commit_transaction(20)


def test_the_place_at_the_end_of_a_log_is_past_the_marker_of_its_last_transaction(
    brokers: str, recovery_config: RecoveryConfig, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers)
    committed_transactions(brokers, topic, range(3))
    group = f"group-of-{topic}"
    flow, kept = reading(brokers, [topic], Reading(group=group, tail=False))
    entry_point(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert values(kept.items) == [0, 1, 2]
    asker = Consumer({"bootstrap.servers": brokers, "group.id": group})
    _, high = asker.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)
    assert high == 6  # a marker after each
    assert kept_places(brokers, topic, recovery_config) == [6]
    asker.close()


def test_a_source_that_is_asked_to_stop_ends_past_the_marker_of_the_message_that_it_has_read(
    brokers: str, recovery_config: RecoveryConfig, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers)
    committed_transactions(brokers, topic, [0])
    flow, kept = reading(brokers, [topic], Reading())
    with beside(lambda: wait_until(lambda: kept.items)):  # before the broker says: no more
        entry_point(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert values(kept.items) == [0]
    assert kept_places(brokers, topic, recovery_config) == [2]


def test_a_broker_that_is_away_delays_the_end_of_a_source_by_no_more_than_its_time(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    committed_transactions(brokers, topic, [0])
    part = source.KafkaSource(Cluster(brokers=brokers), [topic]).build_part(
        "in", f"{topic}/0", None
    )
    wait_until(part.next_batch)
    monkeypatch.setattr(SharedConsumer, "_fetch", lambda _: None)
    now = 100.0
    monkeypatch.setattr(source, "time", SimpleNamespace(monotonic=lambda: now))
    STOP.request()
    assert part.next_batch() == []
    now += 0.9
    assert part.next_batch() == []
    now += 0.2
    with pytest.raises(StopIteration):
        part.next_batch()
    part.close()


def test_what_goes_wrong_while_a_source_looks_what_follows_is_for_the_next_start(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    part = source.KafkaSource(Cluster(brokers=brokers), [topic]).build_part(
        "in", f"{topic}/0", None
    )
    part.next_batch()

    def fail(_: object) -> None:
        msg = "gone"
        raise BrokenFlowError(msg)

    monkeypatch.setattr(SharedConsumer, "_fetch", fail)
    STOP.request()
    with pytest.raises(StopIteration):
        part.next_batch()
    part.close()


def test_the_place_before_a_message_that_waits_is_its_own_whatever_lies_between(
    brokers: str,
) -> None:
    topic = new_topic(brokers)
    committed_transactions(brokers, topic, range(3))
    how = Reading(max_epoch_records=1)
    part = source.KafkaSource(Cluster(brokers=brokers), [topic], how).build_part(
        "in", f"{topic}/0", None
    )
    places: list[int] = []

    def all_read() -> bool:
        if part.next_batch():
            places.append(int(part.snapshot()))
        return len(places) == 3

    wait_until(all_read)
    assert places[:2] == [2, 4]  # the markers stand at 1, 3 and 5
    wait_until(lambda: not part.next_batch() and part.snapshot() == 6)
    part.close()


def test_the_end_of_a_log_ends_no_source_that_waits_for_more(brokers: str) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(3))
    part = source.KafkaSource(Cluster(brokers=brokers), [topic]).build_part(
        "in", f"{topic}/0", None
    )
    found: list[Message] = []

    def read(n_messages: int) -> bool:
        found.extend(part.next_batch())
        return len(found) == n_messages

    wait_until(lambda: read(3))
    shared: SharedConsumer = part._shared  # type: ignore[attr-defined]  # what _Partition holds
    wait_until(lambda: part.next_batch() == [] and shared._no_more_before)
    assert [part.next_batch() for _ in range(5)] == [[]] * 5
    fill(brokers, topic, range(3, 6))
    wait_until(lambda: read(6))
    part.close()


def test_offsets_at_the_end_of_a_transactional_log_are_shown_to_lag_tools(brokers: str) -> None:
    topic = new_topic(brokers)
    committed_transactions(brokers, topic, range(3))
    group = f"group-of-{topic}"
    asker = Consumer({"bootstrap.servers": brokers, "group.id": group})
    reader = source.KafkaSource(Cluster(brokers=brokers), [topic], Reading(group=group))
    part = reader.build_part("in", f"{topic}/0", None)

    def no_lag() -> bool:
        part.next_batch()
        part.snapshot()
        [where] = asker.committed([TopicPartition(topic, 0)], timeout=5)
        return bool(where.offset == 6)

    wait_until(no_lag)
    assert counted("stream_committed_offset", topic=topic, partition="0") == 6
    part.close()
    asker.close()


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_the_level_of_reading_is_a_setting(brokers: str, isolation: Any) -> None:
    topic = new_topic(brokers)
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, value=b"1", partition=0)
    producer.flush(10)  # open
    flow, kept = reading(brokers, [topic], Reading(isolation=isolation, tail=False))
    on_workers(0)(flow)
    assert values(kept.items) == ([1] if isolation == "read_uncommitted" else [])
    producer.abort_transaction(10)


GONE = [
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
]


@pytest.mark.parametrize("code", GONE)
def test_a_topic_that_is_deleted_while_it_is_read_ends_the_flow_for_a_restart(
    brokers: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    shared = SharedConsumer(Cluster(brokers=brokers), Reading())
    error, gone = KafkaError(code), SimpleNamespace(topic=lambda: "docs", partition=lambda: 0)
    with pytest.raises(BrokenFlowError, match="docs was deleted while it was read"):
        shared._handle(gone, error)  # type: ignore[arg-type]  # as much of a message as is asked
    monkeypatch.setattr(STOP, "ends_process", True)
    shared._handle(gone, error)  # type: ignore[arg-type]  # as above
    assert STOP.wants_restart


class Described:
    """An admin client whose answers are told one by one."""

    def __init__(self) -> None:
        self.asked: list[Future[Any]] = []

    def poll(self, _: float) -> int:
        return 0

    def describe_topics(self, topics: Any, **_: float) -> dict[str, Future[Any]]:
        self.asked.append(Future())
        return dict.fromkeys(topics.topic_names, self.asked[-1])

    def answer(self, topic_id: Uuid, n_partitions: int) -> None:
        found = SimpleNamespace(topic_id=topic_id, partitions=[None] * n_partitions)
        self.asked[-1].set_result(found)


class Watched:
    """A watch over one topic, with a clock and an admin client in hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n_partitions: int | None = 2) -> None:
        self.admin = Described()
        self.now = 0.0
        monkeypatch.setattr(Cluster, "admin", lambda _: self.admin)
        self.watch = TopicWatch(Cluster(brokers="nowhere:1"), 15.0, lambda: self.now)
        self.watch.add("docs", str(OLD), n_partitions)

    def look_at(self, now: float) -> bool:
        self.now = now
        return self.watch.look()


def test_a_log_that_seems_to_end_before_the_place_only_to_a_new_leader_is_no_gap(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(3))
    reader = source.KafkaSource(Cluster(brokers=brokers), [topic], Reading(refresh_s=0.01))
    part = reader.build_part("in", f"{topic}/0", 5)
    asked: list[object] = []

    def later(*_: object) -> tuple[int, int]:
        asked.append(part.next_batch)
        return 0, 5

    monkeypatch.setattr(SharedConsumer, "_watermarks", later)
    wait_until(lambda: part.next_batch() == [] and len(asked) >= 3)
    assert part.snapshot() == 5
    part.close()


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STOP, "ends_process", True)


def test_topics_are_asked_about_once_in_each_period_and_nothing_waits_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    assert [watched.look_at(now) for now in (1, 14.9, 15, 15.1, 29, 30, 44, 45)] == [
        *(False, False, True, False, False, True, False, True)
    ]
    assert len(watched.admin.asked) == 1  # the first question is still under way
    watched.admin.answer(OLD, 2)
    watched.look_at(60)
    assert len(watched.admin.asked) == 2
    assert not STOP.requested


CHANGES: list[tuple[Uuid, int, str]] = [
    (NEW, 2, "docs was made again while it was read"),
    (NEW, 1, "docs was made again while it was read"),
    (NEW, 5, "docs was made again while it was read"),
    (OLD, 3, "docs has 3 partitions, 2 of which are read"),
]


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize(("topic_id", "n_partitions", "said"), CHANGES)
def test_a_topic_that_has_changed_ends_a_process_of_ours_for_a_restart_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    topic_id: Uuid,
    n_partitions: int,
    said: str,
) -> None:
    watched = Watched(monkeypatch)
    watched.look_at(15)
    watched.admin.answer(topic_id, n_partitions)
    with caplog.at_level(logging.ERROR, "operators"):
        watched.look_at(16)
        watched.look_at(17)
    assert STOP.requested
    assert STOP.wants_restart
    [line] = caplog.messages
    assert line.startswith(said)
    assert line.endswith("All that was read is written; exit code 75")


@pytest.mark.parametrize(("topic_id", "n_partitions", "said"), CHANGES)
def test_a_topic_that_has_changed_is_an_error_in_a_process_of_someone_else(
    monkeypatch: pytest.MonkeyPatch, topic_id: Uuid, n_partitions: int, said: str
) -> None:
    watched = Watched(monkeypatch)
    watched.look_at(15)
    watched.admin.answer(topic_id, n_partitions)
    with pytest.raises(BrokenFlowError, match=said):
        watched.look_at(16)
    assert not STOP.requested


@pytest.mark.usefixtures("own_process")
def test_partitions_that_were_added_are_counted_in_a_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    watched.look_at(15)
    watched.admin.answer(OLD, 6)
    watched.look_at(16)
    assert counted("stream_unread_partitions", topic="docs") == 4


SAME: list[Callable[[Described], None]] = [
    lambda admin: admin.answer(OLD, 2),
    lambda admin: admin.answer(OLD, 1),  # a broker that lags behind
    lambda admin: admin.answer(Uuid(0, 0), 2),
    lambda admin: admin.asked[-1].set_exception(
        KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    ),
    lambda admin: admin.asked[-1].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT))),
]


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize("answer", SAME)
def test_a_topic_that_is_the_same_or_of_which_nothing_is_known_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Described], None]
) -> None:
    watched = Watched(monkeypatch)
    for now in (15, 30, 45):
        watched.look_at(now)
        answer(watched.admin)
        watched.look_at(now + 1)
    assert len(watched.admin.asked) == 3
    assert not STOP.requested


@pytest.mark.usefixtures("own_process")
def test_how_many_partitions_there_were_is_taken_from_the_first_answer_where_nobody_has_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, None)
    for now, n_partitions, requested in ((15, 4, False), (30, 4, False), (45, 5, True)):
        watched.look_at(now)
        watched.admin.answer(OLD, n_partitions)
        watched.look_at(now + 1)
        assert STOP.requested is requested
