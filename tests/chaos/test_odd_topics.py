"""Of topics with odd messages, of transactions, or made again, real processes lose nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from qdrant_client import QdrantClient

from flows.local_broker import create_topic, produce
from tests.chaos.deployment import N_PARTITIONS, TOPIC, Deployment, committed, deployed, stored
from tests.operators.things import wait_until
from tests.servers import RunningQdrant, running_qdrant
from tests.servers.raw_headers import produce_with_headers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningQdrant]:
    with running_qdrant(tmp_path / "server") as running:
        yield running


@pytest.fixture
def flow(tmp_path: Path, brokers: str, server: RunningQdrant) -> Iterator[Deployment]:
    with deployed(tmp_path / "flow", brokers, STREAM_QDRANT_URL=server.url) as deployment:
        yield deployment


def texts(server: RunningQdrant) -> list[str]:
    client = QdrantClient(url=server.url, check_compatibility=False)
    payloads: list[Any] = [point["payload"] for point in stored(client).values()]
    return sorted(payload["text"] for payload in payloads)


def documents(*names: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), json.dumps({"text": f"text {name}"}).encode()) for name in names]


def letters(flow: Deployment) -> list[dict[str, Any]]:
    path = flow.folder / "dead_letters.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_headers_whose_names_are_no_text_are_dead_letters_and_their_neighbours_are_read(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    names = {
        "latin": [("é".encode("latin-1"), b"1")],
        "among others": [(b"good", b"1"), (b"\xff\xfe", b"2"), (b"good", b"3")],
        "cut off": [(b"a\xe2\x82", b"")],
    }
    produce(brokers, TOPIC, documents("a", "b", "c"))
    for name, headers in names.items():
        [(key, value)] = documents(name)
        for partition in range(N_PARTITIONS):
            produce_with_headers(brokers, TOPIC, headers, key=key, value=value, partition=partition)
    produce(brokers, TOPIC, documents("d", "e", "f"))
    flow.start()
    flow.wait_for(lambda: committed(brokers) == 6 + len(names) * N_PARTITIONS)
    assert flow.stop() == [0]
    assert texts(server) == [f"text {name}" for name in "abcdef"]
    found = letters(flow)
    assert sorted(one["key"] for one in found) == sorted([*names] * N_PARTITIONS)
    for one in found:
        assert json.loads(one["value"]) == {"text": f"text {one['key']}"}
        assert (one["topic"], one["stage"]) == (TOPIC, "decode")
        assert one["reason"].startswith("The message could not be read whole: headers: Unicode")
    produce(brokers, TOPIC, documents("g"))
    flow.start()  # a resume reads none of them again
    flow.wait_for(lambda: len(texts(server)) == 7)
    assert flow.stop() == [0]
    assert len(letters(flow)) == len(found)


def test_nothing_lags_at_the_end_of_a_log_of_transactions(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": "writer"})
    producer.init_transactions(20)
    for key, value in documents("a", "b", "c"):
        producer.begin_transaction()
        producer.produce(TOPIC, key=key, value=value, partition=0)
        producer.commit_transaction(20)
    asker = Consumer({"bootstrap.servers": brokers, "group.id": "asker"})
    _, high = asker.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=5)
    assert high == 6  # a marker after each
    flow.start()
    flow.wait_for(lambda: committed(brokers) == high)
    assert flow.stop() == [0]
    assert texts(server) == ["text a", "text b", "text c"]
    asker.close()


def make_again(brokers: str, n_partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.delete_topics([TOPIC])[TOPIC].result(timeout=10)
    wait_until(lambda: TOPIC not in admin.list_topics(timeout=10).topics)
    create_topic(brokers, TOPIC, n_partitions)


def test_a_topic_made_again_between_two_runs_is_told_and_read_from_its_start_where_asked(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    old = documents(*(f"old {number}" for number in range(15)))
    new = documents(*(f"new {number}" for number in range(40)))
    produce(brokers, TOPIC, old)
    flow.start()
    flow.wait_for(lambda: committed(brokers) == len(old))
    assert flow.stop() == [0]

    make_again(brokers, N_PARTITIONS - 1)  # Bytewax would not resume without the last of them
    produce(brokers, TOPIC, new)  # all partitions outgrow the old offsets
    flow.start()
    assert flow.ended() == [1]
    assert "cannot resume at offset" in flow.log()
    assert "the topic was made again" in flow.log()
    assert "set on_gap='continue'" in flow.log()

    flow.environment["STREAM_KAFKA_ON_GAP"] = "continue"
    for one in documents("first", "second"):  # and the second run reads nothing else
        new.append(one)
        produce(brokers, TOPIC, [one])
        flow.start()
        flow.wait_for(lambda: len(texts(server)) == len(old) + len(new))
        flow.wait_for(lambda: committed(brokers) == len(new))
        assert flow.stop() == [0]
    assert flow.log().count("; going on") == N_PARTITIONS
    assert not letters(flow)
