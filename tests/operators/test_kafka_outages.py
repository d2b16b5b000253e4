"""Brokers that are away are waited for; what the log no longer has is told, never skipped."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack

import pytest
from bytewax.inputs import StatefulSourcePartition
from confluent_kafka import KafkaError

from flows.local_broker import create_topic, free_port, running_broker
from operators import BrokenFlowError, Cluster, KafkaSource, Message, Reading, outages
from operators.kafka import OnGap, cluster, consuming
from operators.kafka.consuming import SharedConsumer
from tests.operators.kafka_things import beside, fill, frozen, new_topic, reading, values
from tests.operators.things import EntryPoint, on_workers, wait_until

QUICK = {"reconnect.backoff.ms": "20", "reconnect.backoff.max.ms": "100"}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CALL_TIMEOUT_S", 0.3)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("n_workers", [0, 1, 2])
def test_a_broker_that_is_down_at_the_start_is_waited_for(
    n_workers: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    up = threading.Event()
    with ExitStack() as later:

        def start() -> None:
            later.enter_context(running_broker(port))
            create_topic(address, "late", 1)
            fill(address, "late", range(3))
            up.set()

        # All workers wait when it starts, so that none sees it before it has its topic.
        all_wait = threading.Barrier(max(n_workers, 1), action=start)

        def sleep(_: float) -> None:
            if not up.is_set():
                all_wait.wait(10)

        monkeypatch.setattr(outages, "_sleep_unless_stopped", sleep)
        flow, kept = reading(address, ["late"], options=QUICK)
        with caplog.at_level(logging.WARNING, "operators.outages"):
            on_workers(n_workers)(flow)
        assert values(kept.items) == [0, 1, 2]
    assert any("Kafka topic late: not there yet" in line for line in caplog.messages)


def test_a_broker_that_hangs_for_a_while_delays_and_loses_nothing(entry_point: EntryPoint) -> None:
    with running_broker() as address:
        topic = new_topic(address)
        fill(address, topic, range(5))
        flow, kept = reading(address, [topic], Reading(), options=QUICK)

        def hang() -> None:
            wait_until(lambda: len(kept.items) == 5)
            go_on = frozen(address)
            threading.Event().wait(0.3)
            go_on()
            fill(address, topic, range(5, 10))
            wait_until(lambda: len(kept.items) == 10)

        with beside(hang):
            entry_point(flow)
        assert values(kept.items) == list(range(10))


def test_a_broker_that_is_killed_and_comes_back_is_read_on_where_reading_stopped(
    entry_point: EntryPoint, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    with ExitStack() as brokers:
        first = brokers.enter_context(ExitStack())
        first.enter_context(running_broker(port))
        create_topic(address, "docs", 1)
        fill(address, "docs", range(5))
        flow, kept = reading(address, ["docs"], Reading(), options=QUICK)

        def replace_broker() -> None:
            wait_until(lambda: len(kept.items) == 5)
            first.close()
            wait_until(lambda: any("Kafka" in line for line in caplog.messages))
            brokers.enter_context(running_broker(port))
            create_topic(address, "docs", 1)
            fill(address, "docs", range(10))  # its memory is gone: the same messages once more
            wait_until(lambda: len(kept.items) == 10)

        with caplog.at_level(logging.WARNING, "operators.kafka"), beside(replace_broker):
            entry_point(flow)
        assert values(kept.items) == list(range(10))


def resumed(
    brokers: str, topic: str, offset: int, on_gap: OnGap
) -> StatefulSourcePartition[Message, int]:
    reader = KafkaSource(Cluster(brokers=brokers), [topic], Reading(on_gap=on_gap))
    return reader.build_part("in", f"{topic}/0", offset)


def test_a_resume_beyond_the_end_fails_and_says_that_the_topic_was_made_again(
    mock_cluster: str,
) -> None:
    fill(mock_cluster, "again", range(5))
    part = resumed(mock_cluster, "again", 1_000_000, "fail")

    said = (
        "again/0 cannot resume at offset 1000000; the log ends at 5: the topic was made again. "
        "Start with an empty recovery store; .* set on_gap='continue'"
    )
    with pytest.raises(BrokenFlowError, match=said):
        wait_until(lambda: part.next_batch() is None)
    part.close()


def test_a_resume_beyond_the_end_goes_on_at_the_start_of_the_log_where_asked(
    mock_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(mock_cluster, "anew", range(5))
    part = resumed(mock_cluster, "anew", 1_000_000, "continue")
    found: list[Message] = []

    def all_read() -> bool:
        found.extend(part.next_batch())
        return len(found) == 5

    with caplog.at_level(logging.WARNING, "operators.kafka"):
        wait_until(all_read)
    assert values(found) == list(range(5))
    assert any("anew/0: resume at 1000000 wanted" in line for line in caplog.messages)
    part.close()


def test_a_topic_made_again_while_it_is_read_ends_the_flow_and_its_logs_are_not_mixed_up(
    mock_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(mock_cluster, "swapped", range(5))
    logs = iter(["old", "new"])
    monkeypatch.setattr(consuming, "log_of", lambda *_: next(logs))
    part = resumed(mock_cluster, "swapped", 1_000_000, "continue")
    with pytest.raises(BrokenFlowError, match="swapped was made again while it was read"):
        wait_until(lambda: part.next_batch() is None)
    part.close()


def test_a_resume_before_the_start_of_the_log_fails_and_counts_what_is_lost(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(10))
    monkeypatch.setattr(SharedConsumer, "_watermarks", lambda *_: (5, 10))
    with pytest.raises(BrokenFlowError) as failed:
        resumed(brokers, topic, 2, "fail")
    assert "3 messages are gone (retention): the log starts at 5" in str(failed.value)


def test_a_resume_before_the_start_of_the_log_goes_on_with_what_is_left_where_asked(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(10))
    monkeypatch.setattr(SharedConsumer, "_watermarks", lambda *_: (5, 10))
    part = resumed(brokers, topic, 2, "continue")
    found: list[Message] = []

    def all_read() -> bool:
        found.extend(part.next_batch())
        return len(found) == 5

    wait_until(all_read)
    assert values(found) == list(range(5, 10))
    part.close()


def test_an_error_that_no_waiting_mends_ends_the_flow(brokers: str) -> None:
    topic = new_topic(brokers)
    part = resumed(brokers, topic, 0, "fail")
    shared: SharedConsumer = part._shared  # type: ignore[attr-defined]  # what _Partition holds

    class Told:
        def topic(self) -> str:
            return topic

        def partition(self) -> int:
            return 0

    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(BrokenFlowError, match=f"Kafka refuses {topic}/0"):
        shared._handle(Told(), refused)  # type: ignore[arg-type]  # as much of a message as is asked
    part.close()
