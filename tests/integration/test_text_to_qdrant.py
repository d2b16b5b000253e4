"""The main job, as it is deployed, from Apache Kafka, with kills on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import produce
from tests.chaos.deployment import (
    COLLECTION,
    N_PARTITIONS,
    TOPIC,
    Deployment,
    deployed,
    documents,
    stored,
)
from tests.integration.apache_kafka import ApacheKafka
from tests.servers import RunningQdrant, running_qdrant

pytestmark = pytest.mark.kafka

N_DOCUMENTS = 600
N_BEFORE = 400  # the others are written when the broker is back
N_EDITED = 100


def _wait_for_upserts(flow: Deployment, server: RunningQdrant, n_more: int) -> None:
    wanted = server.stats()["upserts"] + n_more
    flow.wait_for(lambda: server.stats()["upserts"] >= wanted)


def test_two_kills_of_the_flow_and_one_of_the_broker_leave_exactly_the_expected_documents(
    tmp_path: Path, kafka: ApacheKafka
) -> None:
    kafka.create(N_PARTITIONS, topic=TOPIC)
    written = documents(N_DOCUMENTS, of=2 * N_EDITED)
    produce(kafka.address, TOPIC, written[:N_BEFORE])
    last = {key: number for number, (key, _) in enumerate(written)}

    with (
        running_qdrant(tmp_path / "server") as server,
        deployed(tmp_path / "flow", kafka.address, STREAM_QDRANT_URL=server.url) as flow,
    ):
        client = QdrantClient(url=server.url, check_compatibility=False)

        def numbers() -> list[int]:
            payloads = [point["payload"] for point in stored(client).values()]
            return sorted(payload["number"] for payload in payloads)  # type: ignore[index]  # JSON

        flow.start()
        _wait_for_upserts(flow, server, 3)
        flow.kill()

        flow.start(2)
        _wait_for_upserts(flow, server, 3)
        kafka.kill()
        kafka.start()
        produce(kafka.address, TOPIC, written[N_BEFORE:])
        _wait_for_upserts(flow, server, 3)
        flow.kill()

        flow.start()
        flow.wait_for(lambda: numbers() == sorted(last.values()))
        assert flow.stop() == [0]
        assert numbers() == sorted(last.values())
    assert (tmp_path / "flow" / "dead_letters.jsonl").read_bytes() == b""


def test_a_stop_while_the_broker_is_away_ends_within_the_time_to_drain(
    tmp_path: Path, kafka: ApacheKafka
) -> None:
    topic = kafka.create(N_PARTITIONS)
    produce(kafka.address, topic, documents(300))
    environment = {"STREAM_KAFKA_TOPICS": topic, "STREAM_DRAIN_S": "3"}
    with running_qdrant(tmp_path / "server") as server:
        environment["STREAM_QDRANT_URL"] = server.url
        with deployed(tmp_path / "flow", kafka.address, **environment) as flow:
            flow.start()
            _wait_for_upserts(flow, server, 1)
            kafka.kill()
            try:
                client = QdrantClient(url=server.url, check_compatibility=False)
                flow.wait_for(lambda: client.count(COLLECTION).count == 300)
                flow.let_run(1.5)  # an epoch ends, and its offsets cannot be committed
                assert flow.stop(within_s=10) == [0]
            finally:
                kafka.start()
