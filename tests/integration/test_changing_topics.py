"""Topics of transactions, made again, or with more partitions: as they are met in deployment."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import pytest
from bytewax.recovery import RecoveryConfig
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer
from confluent_kafka.cimpl import NewPartitions
from qdrant_client import QdrantClient

from flows.local_broker import free_port
from operators import Message, Outgoing, Reading
from tests.chaos.deployment import Deployment, deployed, stored
from tests.integration.apache_kafka import ApacheKafka
from tests.operators.kafka_things import fill, reading, values, write
from tests.operators.things import NO_TIME, on_workers, wait_until
from tests.servers import running_qdrant

pytestmark = pytest.mark.kafka

GROUP = "fastembed-stream"
RESTART_CODE = 75
REFRESH = {"STREAM_KAFKA_REFRESH_S": "1"}

Ending = Literal["commit", "abort"]


def transactions(kafka: ApacheKafka, topic: str, endings: Iterable[tuple[int, Ending]]) -> None:
    """Write each number in a transaction of its own."""
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    producer.init_transactions(20)
    for number, ending in endings:
        producer.begin_transaction()
        producer.produce(topic, key=b"%d" % number, value=document(number), partition=0)
        producer.flush(10)
        if ending == "commit":
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)


def document(number: int) -> bytes:
    return json.dumps({"text": f"text {number}", "number": number}).encode()


def write_documents(
    kafka: ApacheKafka, topic: str, numbers: Iterable[int], partitions: int = 1
) -> None:
    write(
        kafka.address,
        [
            Outgoing(topic=topic, key=b"%d" % n, value=document(n), partition=n % partitions)
            for n in numbers
        ],
    )


def committed(kafka: ApacheKafka, topic: str) -> dict[int, int]:
    asked = [ConsumerGroupTopicPartitions(GROUP)]
    try:
        answer = kafka.admin.list_consumer_group_offsets(asked)[GROUP].result(10)
    except KafkaException:  # its coordinator has only just started
        return {}
    parts: list[Any] = answer.topic_partitions
    return {part.partition: part.offset for part in parts if part.topic == topic}


@contextmanager
def deployed_over(
    tmp_path: Path, kafka: ApacheKafka, topic: str, **environment: str
) -> Iterator[tuple[Deployment, QdrantClient]]:
    """Give a flow over a topic, and where its points are."""
    with running_qdrant(tmp_path / "server") as server:
        told = {
            "STREAM_KAFKA_TOPICS": topic,
            "STREAM_QDRANT_URL": server.url,
            **REFRESH,
            **environment,
        }
        with deployed(tmp_path / "flow", kafka.address, **told) as flow:
            yield flow, QdrantClient(url=server.url, check_compatibility=False)


def numbers(client: QdrantClient) -> list[int]:
    payloads: list[Any] = [point["payload"] for point in stored(client).values()]
    return sorted(payload["number"] for payload in payloads)


def run(
    kafka: ApacheKafka, topic: str, recovery_config: RecoveryConfig, how: Reading
) -> list[Message]:
    flow, kept = reading(kafka.address, [topic], how)
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    return kept.items


@pytest.mark.parametrize("ending", ["commit", "abort"])
@pytest.mark.parametrize("how_it_ends", ["stop", "kill"])
def test_what_a_transaction_leaves_at_the_end_of_a_log_is_no_lost_message_after_retention(
    tmp_path: Path, kafka: ApacheKafka, ending: Ending, how_it_ends: str
) -> None:
    topic = kafka.create()
    transactions(kafka, topic, [(0, "commit"), (1, "commit"), (2, ending)])
    good = [0, 1, 2] if ending == "commit" else [0, 1]
    with deployed_over(tmp_path, kafka, topic) as (flow, client):
        flow.start()
        if how_it_ends == "kill":
            flow.wait_for(lambda: committed(kafka, topic) == {0: 6})  # as a lag tool asks
            flow.kill()
        else:
            flow.wait_for(lambda: numbers(client) == good)  # the end was not told yet, maybe
            assert flow.stop() == [0]
        assert kafka.ends(topic) == [6]
        kafka.expire(topic, before=6)
        write_documents(kafka, topic, [7])
        flow.start()
        flow.wait_for(lambda: numbers(client) == [*good, 7])
        assert flow.stop() == [0]
        assert "gone" not in flow.log()


def test_markers_between_the_last_message_that_was_taken_and_the_next_are_no_loss(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = kafka.create()
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    producer.init_transactions(20)
    for number in range(4):
        producer.begin_transaction()
        producer.produce(topic, value=b"%d" % number)
        producer.flush(10)
        if number in {1, 2}:
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)
    how = Reading(max_epoch_records=1, tail=False)
    flow, kept = reading(kafka.address, [topic], how)
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert values(kept.items) == [0, 3]
    kafka.expire(topic, before=8)
    fill(kafka.address, topic, [8])
    assert values(run(kafka, topic, recovery_config, how)) == [8]


def test_messages_of_open_and_aborted_transactions_are_read_where_asked(
    kafka: ApacheKafka, recovery_config: RecoveryConfig
) -> None:
    topic = kafka.create()
    transactions(kafka, topic, [(0, "commit"), (1, "abort")])
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": f"{topic}-open"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, key=b"2", value=document(2))
    producer.flush(10)
    found = run(kafka, topic, recovery_config, Reading(tail=False, isolation="read_uncommitted"))
    assert [one.key for one in found] == [b"0", b"1", b"2"]
    producer.commit_transaction(10)
    assert run(kafka, topic, recovery_config, Reading(tail=False)) == []
    write_documents(kafka, topic, [3])
    assert [one.key for one in run(kafka, topic, recovery_config, Reading(tail=False))] == [b"3"]


@pytest.mark.parametrize("n_new", [2, 5, 8])
def test_a_topic_made_again_between_two_runs_is_read_from_its_start_where_asked(
    kafka: ApacheKafka,
    recovery_config: RecoveryConfig,
    caplog: pytest.LogCaptureFixture,
    n_new: int,
) -> None:
    topic = kafka.create()
    fill(kafka.address, topic, range(5))
    assert len(run(kafka, topic, recovery_config, Reading(tail=False))) == 5
    kafka.recreate(topic)
    fill(kafka.address, topic, range(n_new))
    for _ in range(2):
        with pytest.raises(RuntimeError) as failed:  # Bytewax', with the source's as its cause
            run(kafka, topic, recovery_config, Reading(tail=False))
        said = str(failed.value.__cause__)
        assert said.startswith(f"{topic}/0 cannot resume at offset 5; the ")
        assert "the topic was made again" in said
    how = Reading(tail=False, on_gap="continue")
    with caplog.at_level(logging.WARNING, "operators"):
        assert values(run(kafka, topic, recovery_config, how)) == list(range(n_new))
    assert sum("; going on" in line for line in caplog.messages) == 1
    assert run(kafka, topic, recovery_config, Reading(tail=False)) == []


@pytest.mark.parametrize("n_new", [3, 8])
def test_a_topic_made_again_while_it_is_read_is_told_and_read_from_its_start_where_asked(
    tmp_path: Path, kafka: ApacheKafka, n_new: int
) -> None:
    topic = kafka.create()
    write_documents(kafka, topic, range(5))
    with deployed_over(tmp_path, kafka, topic) as (flow, client):
        flow.start()
        flow.wait_for(lambda: numbers(client) == list(range(5)))
        kafka.recreate(topic)
        write_documents(kafka, topic, range(100, 100 + n_new))
        assert flow.ended() == [RESTART_CODE]
        assert f"{topic} was made again while it was read" in flow.log()
        flow.start()
        assert flow.ended() == [1]
        assert f"{topic}/0 cannot resume at offset" in flow.log()
        flow.environment["STREAM_KAFKA_ON_GAP"] = "continue"
        flow.start()
        flow.wait_for(lambda: numbers(client) == [*range(5), *range(100, 100 + n_new)])
        flow.wait_for(lambda: committed(kafka, topic) == {0: n_new})
        assert flow.stop() == [0]
        assert "; going on" in flow.log()


def test_a_topic_that_is_deleted_and_made_again_much_later_is_read_then(
    tmp_path: Path, kafka: ApacheKafka
) -> None:
    topic = kafka.create()
    write_documents(kafka, topic, range(5))
    with deployed_over(tmp_path, kafka, topic, STREAM_KAFKA_ON_GAP="continue") as (flow, client):
        flow.start()
        flow.wait_for(lambda: numbers(client) == list(range(5)))
        kafka.admin.delete_topics([topic])[topic].result(10)
        flow.let_run(3)
        kafka.create(topic=topic)
        write_documents(kafka, topic, range(100, 108))
        assert flow.ended() == [RESTART_CODE]
        flow.start()
        flow.wait_for(lambda: numbers(client) == [*range(5), *range(100, 108)])
        assert flow.stop() == [0]


def add_partitions(kafka: ApacheKafka, topic: str, n_partitions: int) -> None:
    new = [NewPartitions(topic, n_partitions)]
    kafka.admin.create_partitions(new)[topic].result(10)
    wait_until(lambda: len(kafka.ends(topic)) == n_partitions)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_partitions_that_are_added_end_the_flow_for_a_restart_that_reads_them(
    tmp_path: Path, kafka: ApacheKafka, n_workers: int
) -> None:
    topic = kafka.create(2)
    write_documents(kafka, topic, range(40), 2)
    with deployed_over(tmp_path, kafka, topic) as (flow, client):
        flow.start(n_workers)
        flow.wait_for(lambda: numbers(client) == list(range(40)))
        add_partitions(kafka, topic, 4)
        write_documents(kafka, topic, range(40, 80), 4)
        assert flow.ended() == [RESTART_CODE]
        assert f"{topic} has 4 partitions, 2 of which are read" in flow.log()
        assert "exit code 75" in flow.log()
        before = committed(kafka, topic)
        flow.start(n_workers)
        flow.wait_for(lambda: numbers(client) == list(range(80)))
        flow.wait_for(lambda: sum(committed(kafka, topic).values()) == 80)
        assert before.keys() <= committed(kafka, topic).keys()
        flow.let_run(2)  # nothing ends it again
        assert flow.stop() == [0]
    assert "Traceback" not in flow.log()


def test_all_processes_of_a_cluster_end_for_partitions_that_are_added(
    tmp_path: Path, kafka: ApacheKafka
) -> None:
    topic = kafka.create(4)
    write_documents(kafka, topic, range(40), 4)
    with deployed_over(tmp_path, kafka, topic) as (flow, client):
        flow.start(addresses=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
        flow.wait_for(lambda: numbers(client) == list(range(40)))
        add_partitions(kafka, topic, 6)
        write_documents(kafka, topic, range(40, 76), 6)
        assert flow.ended() == [RESTART_CODE, RESTART_CODE]
        flow.start()
        flow.wait_for(lambda: numbers(client) == list(range(76)))
        assert flow.stop() == [0]


@pytest.mark.parametrize("change", ["more partitions", "made again"])
def test_a_process_that_wants_a_restart_waits_no_longer_than_to_drain_for_those_that_do_not(
    tmp_path: Path, kafka: ApacheKafka, change: str
) -> None:
    topics = [kafka.create() for _ in range(2)]
    for n, topic in enumerate(topics):
        write_documents(kafka, topic, range(20 * n, 20 * (n + 1)))
    told = {"STREAM_DRAIN_S": "2", "STREAM_KAFKA_ON_GAP": "continue"}
    with deployed_over(tmp_path, kafka, ",".join(topics), **told) as (flow, client):
        # Each process reads one topic, and knows of no other.
        flow.start(addresses=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
        flow.wait_for(lambda: numbers(client) == list(range(40)))
        if change == "more partitions":
            add_partitions(kafka, topics[1], 2)
        else:
            kafka.recreate(topics[1])
        assert RESTART_CODE in flow.ended()
        flow.start()
        write_documents(kafka, topics[1], range(40, 80), 2 if change == "more partitions" else 1)
        flow.wait_for(lambda: numbers(client) == list(range(80)))
        assert flow.stop() == [0]


def test_the_metric_of_partitions_that_are_not_read_is_there_before_the_flow_ends(
    tmp_path: Path, kafka: ApacheKafka
) -> None:
    topic, port = kafka.create(2), free_port()
    write_documents(kafka, topic, range(4), 2)
    with deployed_over(tmp_path, kafka, topic, STREAM_METRICS_PORT=str(port)) as (flow, client):
        flow.start()
        flow.wait_for(lambda: numbers(client) == list(range(4)))
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        assert f'stream_unread_partitions{{topic="{topic}"}} 0.0' in text
        assert flow.stop() == [0]
