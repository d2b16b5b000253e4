"""What the log no longer has is told and counted, never skipped in silence."""

from __future__ import annotations

import logging
import re

import pytest
from bytewax.inputs import StatefulSourcePartition
from bytewax.recovery import RecoveryConfig

from operators import BrokenFlowError, Cluster, KafkaSource, Message, Outgoing, Reading
from tests.integration.apache_kafka import ApacheKafka
from tests.operators.kafka_things import fill, reading, values, write
from tests.operators.things import NO_TIME, on_workers, wait_until

pytestmark = pytest.mark.kafka

N_MESSAGES = 200
# Fetched one by one, so that a reader is overtaken before it has all of a small topic.
LITTLE_AHEAD = {
    "fetch.message.max.bytes": "1000",
    "queued.max.messages.kbytes": "1",
    "fetch.queue.backoff.ms": "10",
}


def run(
    kafka: ApacheKafka, topic: str, recovery_config: RecoveryConfig, how: Reading
) -> list[Message]:
    flow, kept = reading(kafka.address, [topic], how)
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    return kept.items


def broken(kafka: ApacheKafka, topic: str, recovery_config: RecoveryConfig) -> str:
    """Run a flow that must end by itself, and give what it says."""
    with pytest.raises(RuntimeError) as failed:  # Bytewax', with the source's as its cause
        run(kafka, topic, recovery_config, Reading())
    assert isinstance(failed.value.__cause__, BrokenFlowError)
    return str(failed.value.__cause__)


def half_read(kafka: ApacheKafka, recovery_config: RecoveryConfig) -> str:
    """Read a topic until offset 10, stop, and write more."""
    topic = kafka.create()
    fill(kafka.address, topic, range(10))
    assert values(run(kafka, topic, recovery_config, Reading(tail=False))) == list(range(10))
    fill(kafka.address, topic, range(10, 40))
    return topic


def test_a_resume_behind_the_start_of_the_log_fails_and_counts_what_is_lost(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = half_read(kafka, recovery_config)
    kafka.expire(topic, before=25)
    for _ in range(2):  # a failure changes nothing
        assert broken(kafka, topic, recovery_config).startswith(
            f"{topic}/0 cannot resume at offset 10; 15 messages are gone (retention): the log "
            "starts at 25. To go on without them, set on_gap='continue'"
        )


def test_a_resume_behind_the_start_of_the_log_goes_on_with_what_is_left_where_asked(
    kafka: ApacheKafka, recovery_config: RecoveryConfig, caplog: pytest.LogCaptureFixture
) -> None:
    topic = half_read(kafka, recovery_config)
    kafka.expire(topic, before=25)
    with caplog.at_level(logging.WARNING, "operators"):
        found = run(kafka, topic, recovery_config, Reading(tail=False, on_gap="continue"))
    assert values(found) == list(range(25, 40))
    said = f"{topic}/0: resume at 10 wanted, 15 messages are gone"
    assert any(line.startswith(said) for line in caplog.messages)


def test_retention_up_to_the_very_place_of_a_resume_has_cost_nothing(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = half_read(kafka, recovery_config)
    kafka.expire(topic, before=10)
    found = run(kafka, topic, recovery_config, Reading(tail=False))
    assert values(found) == list(range(10, 40))


def test_a_resume_where_retention_took_all_that_was_read_and_nothing_else_is_no_gap(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = kafka.create()
    fill(kafka.address, topic, range(10))
    run(kafka, topic, recovery_config, Reading(tail=False))
    kafka.expire(topic, before=10)
    assert run(kafka, topic, recovery_config, Reading(tail=False)) == []
    fill(kafka.address, topic, [10])
    assert values(run(kafka, topic, recovery_config, Reading(tail=False))) == [10]


def overtaken(
    kafka: ApacheKafka, how: Reading
) -> tuple[str, StatefulSourcePartition[Message, int], list[Message]]:
    """Let retention delete what a running reader has not read yet."""
    topic = kafka.create()
    for number in range(N_MESSAGES):  # each a batch of its own: Kafka gives no half of one
        one = Outgoing(topic=topic, key=None, value=b"%0900d" % number)
        write(kafka.address, [one])
    cluster = Cluster(brokers=kafka.address, options=LITTLE_AHEAD)
    part = KafkaSource(cluster, [topic], how).build_part("in", f"{topic}/0", None)
    found: list[Message] = []

    def ten_read() -> bool:
        found.extend(part.next_batch())
        return len(found) == 10

    wait_until(ten_read)
    kafka.expire(topic, before=150)
    return topic, part, found


def test_retention_that_overtakes_a_running_reader_ends_the_flow_and_counts_what_is_lost(
    kafka: ApacheKafka,
) -> None:
    topic, part, found = overtaken(kafka, Reading(max_epoch_records=10))

    def never() -> bool:
        part.snapshot()
        found.extend(part.next_batch())
        return False

    with pytest.raises(BrokenFlowError) as failed:
        wait_until(never)
    part.close()
    said = re.search(r"cannot resume at offset (\d+); (\d+) messages are gone", str(failed.value))
    assert said is not None
    assert int(said[1]) + int(said[2]) == 150
    assert values(found) == list(range(len(found)))
    assert 10 <= len(found) <= int(said[1]) < 150
    assert topic in str(failed.value)


def test_a_running_reader_that_is_overtaken_goes_on_with_what_is_left_where_asked(
    kafka: ApacheKafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic, part, found = overtaken(kafka, Reading(max_epoch_records=10, on_gap="continue"))

    def all_read() -> bool:
        part.snapshot()
        found.extend(part.next_batch())
        return values(found)[-1] == N_MESSAGES - 1

    with caplog.at_level(logging.WARNING, "operators"):
        wait_until(all_read)
    part.close()
    said = [
        int(match[1])
        for line in caplog.messages
        if (match := re.match(rf"{topic}/0: resume at (\d+) wanted, \d+ messages are gone", line))
    ]
    assert len(said) == 1
    assert values(found) == [*range(said[0]), *range(150, N_MESSAGES)]


def test_a_topic_made_again_with_fewer_messages_ends_the_flow_on_resume(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = half_read(kafka, recovery_config)
    kafka.recreate(topic)
    fill(kafka.address, topic, range(5))
    assert broken(kafka, topic, recovery_config).startswith(
        f"{topic}/0 cannot resume at offset 10; the log ends at 5: the topic was made again. "
        "Start with an empty recovery store"
    )


def test_a_topic_made_again_is_read_from_its_start_where_asked(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = half_read(kafka, recovery_config)
    kafka.recreate(topic)
    fill(kafka.address, topic, range(5))
    found = run(kafka, topic, recovery_config, Reading(tail=False, on_gap="continue"))
    assert values(found) == list(range(5))
