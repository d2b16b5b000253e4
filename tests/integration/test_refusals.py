"""What a topic of Apache Kafka refuses ends no flow, and is lost nowhere."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from operators import Cluster, DeadLetterFile, DeadLetterTopic, Failure, KafkaSink, Outgoing
from operators.kafka import sink
from operators.metrics import RETRIES
from tests.integration import apache_kafka
from tests.integration.apache_kafka import ApacheKafka, running_kafka
from tests.integration.test_writing import writing
from tests.operators.kafka_things import stored, values
from tests.operators.things import EntryPoint, failure, message, on_workers, wait_until

pytestmark = pytest.mark.kafka

PREFIX = "__connect.errors."
DAY_MS = 86_400_000
WITH_RIGHTS = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


def of(value: bytes | None, number: int, **told: Any) -> Failure:
    return replace(failure(number), origin=message(value, offset=number, **told))


def letters_to(kafka: ApacheKafka, topic: str, file: Path, **told: Any) -> DeadLetterTopic:
    cluster = Cluster(brokers=kafka.address)
    return DeadLetterTopic(cluster, topic, otherwise=DeadLetterFile(file), **told)


def told(one: Any) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX): value.decode()
        for name, value in one.headers
        if name.startswith(PREFIX)
    }


def test_letters_too_large_for_their_topic_shrink_and_neighbours_of_a_batch_stay_whole(
    kafka: ApacheKafka, entry_point: EntryPoint, tmp_path: Path
) -> None:
    topic = kafka.create(config={"max.message.bytes": "5000"})
    headers = (("h", b"h" * 6_000),)
    letters = (
        of(b"small", 0),
        of(b"v" * 20_000, 1),
        of(b"v" * 20_000, 2, headers=headers),
        of(b"v", 3, key=b"k" * 20_000, headers=headers),
        replace(of(b"v" * 6_000, 4), traceback="t" * 6_000),
        of(b"small", 5),
    )
    entry_point(writing(letters_to(kafka, topic, tmp_path / "dead.jsonl"), [letters]))
    there = {told(one)["offset"]: one for one in stored(kafka.address, topic, 6)}
    assert set(there) == {str(number) for number in range(6)}
    assert (there["0"].value, there["5"].value) == (b"small", b"small")
    without = {
        offset: {name.removesuffix(".omitted.bytes") for name in told(one) if "omitted" in name}
        for offset, one in there.items()
    }
    assert without == {
        "0": set(),
        "1": {"value"},
        "2": {"value", "headers"},
        "3": {"value", "headers", "key"},
        "4": {"value", "exception.stacktrace"},
        "5": set(),
    }
    assert told(there["1"])["value.omitted.bytes"] == "20000"
    assert (there["1"].key, there["3"].key) == (b"k", None)
    assert not (tmp_path / "dead.jsonl").exists()


def test_a_letter_that_its_topic_takes_in_no_size_goes_to_the_file_with_an_error(
    kafka: ApacheKafka, entry_point: EntryPoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka.create(config={"max.message.bytes": "100"})
    file = tmp_path / "dead.jsonl"
    with caplog.at_level(logging.ERROR, "operators.dead_letter"):
        entry_point(writing(letters_to(kafka, topic, file), [(of(b"one", 1),), (of(b"two", 2),)]))
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert sorted((line["offset"], line["value"]) for line in lines) == [(1, "one"), (2, "two")]
    assert kafka.ends(topic) == [0]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all(topic in line and str(file) in line and "docs/0 at offset" in line for line in said)


def test_a_letter_without_a_key_to_a_compacted_topic_goes_to_the_file_alone(
    kafka: ApacheKafka, entry_point: EntryPoint, tmp_path: Path
) -> None:
    topic = kafka.create(config={"cleanup.policy": "compact"})
    file = tmp_path / "dead.jsonl"
    letters = tuple(of(b"v", n, key=None if n == 1 else b"k%d" % n) for n in range(3))
    entry_point(writing(letters_to(kafka, topic, file), [letters]))
    assert [json.loads(line)["offset"] for line in file.read_bytes().splitlines()] == [1]
    assert sorted(told(one)["offset"] for one in stored(kafka.address, topic, 2)) == ["0", "2"]


def test_a_letter_of_an_old_message_has_todays_time_and_tells_the_old_one(
    kafka: ApacheKafka, entry_point: EntryPoint, tmp_path: Path
) -> None:
    config = {"message.timestamp.before.max.ms": "3600000", "retention.ms": str(7 * DAY_MS)}
    topic = kafka.create(config=config)
    now = int(time.time() * 1000)
    old, future = now - 60 * DAY_MS, now + 365 * DAY_MS
    letters = (of(b"old", 0, timestamp_ms=old), of(b"future", 1, timestamp_ms=future))
    entry_point(writing(letters_to(kafka, topic, tmp_path / "dead.jsonl"), [letters]))
    there = stored(kafka.address, topic, 2)
    assert [told(one)["timestamp"] for one in there] == [str(old), str(future)]
    assert all(now <= (one.timestamp_ms or 0) < now + 600_000 for one in there)


def test_a_batch_too_large_for_its_topic_is_written_message_by_message(
    kafka: ApacheKafka, entry_point: EntryPoint
) -> None:
    topic = kafka.create(config={"max.message.bytes": "3000"})
    many = tuple(Outgoing(topic=topic, key=b"x" * 1_000, value=b"%d" % n) for n in range(100))
    entry_point(writing(KafkaSink(Cluster(brokers=kafka.address), [topic]), [many]))
    assert sorted(values(stored(kafka.address, topic, 100))) == list(range(100))


def test_an_answer_that_its_topic_refuses_is_a_failure_and_its_neighbours_are_written(
    kafka: ApacheKafka, entry_point: EntryPoint, tmp_path: Path
) -> None:
    topic = kafka.create(config={"max.message.bytes": "3000"})
    file = tmp_path / "dead.jsonl"
    answers = tuple(
        Outgoing(
            topic=topic, key=b"k", value=b"1" * (5_000 if n == 3 else 1), origin=of(b"q", n).origin
        )
        for n in range(6)
    )
    sink = KafkaSink(Cluster(brokers=kafka.address), [topic], refused=DeadLetterFile(file))
    entry_point(writing(sink, [answers]))
    assert len(stored(kafka.address, topic, 5)) == 5
    assert kafka.ends(topic)[0] >= 5
    [line] = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert (line["offset"], line["stage"], line["value"]) == (3, "kafka", "q")
    assert f"Kafka topic {topic} refuses the message" in line["reason"]


def test_a_right_that_is_taken_away_is_waited_for_until_it_is_back(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apache_kafka, "_PROPERTIES", apache_kafka._PROPERTIES + WITH_RIGHTS)
    monkeypatch.setattr(sink, "_nap", lambda _: time.sleep(0.05))
    with running_kafka(jars, tmp_path) as kafka:
        topic = kafka.create()
        letters = letters_to(kafka, topic, tmp_path / "dead.jsonl").build_part("out", "00", None)
        denied = AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            "User:ANONYMOUS",
            "*",
            AclOperation.WRITE,
            AclPermissionType.DENY,
        )
        kafka.admin.create_acls([denied])[denied].result(10)
        letters.write_batch([(of(b"one", 1), of(b"two", 2))])
        with ThreadPoolExecutor() as beside:
            taken = beside.submit(letters.snapshot)
            waited = RETRIES.labels("kafka")._value.get()
            wait_until(lambda: RETRIES.labels("kafka")._value.get() > waited + 3)
            assert not taken.done()
            again = AclBindingFilter(
                ResourceType.TOPIC,
                topic,
                ResourcePatternType.LITERAL,
                "User:ANONYMOUS",
                "*",
                AclOperation.WRITE,
                AclPermissionType.DENY,
            )
            kafka.admin.delete_acls([again])[again].result(10)
            taken.result(20)
        assert {one.value for one in stored(kafka.address, topic, 2)} == {b"one", b"two"}
        assert not (tmp_path / "dead.jsonl").exists()


def test_ten_thousand_letters_to_a_topic_of_small_messages_are_all_there(
    kafka: ApacheKafka, tmp_path: Path
) -> None:
    topic = kafka.create(config={"max.message.bytes": "2000"})
    letters = tuple(of(b"v", n) for n in range(10_000))
    on_workers(0)(writing(letters_to(kafka, topic, tmp_path / "dead.jsonl"), [letters]))
    there = {told(one)["offset"] for one in stored(kafka.address, topic, 10_000)}
    assert len(there) == 10_000
