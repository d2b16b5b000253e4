"""
After any number of kills, rescales and replays the collection equals that of one clean run.

Real processes, a real broker, a real recovery store, real SIGKILL.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from qdrant_client import QdrantClient

from flows.local_broker import free_port, produce
from tests.chaos.deployment import (
    COLLECTION,
    TOPIC,
    Deployment,
    committed,
    deployed,
    documents,
    same,
    stored,
)
from tests.servers import RunningQdrant, running_qdrant

if TYPE_CHECKING:
    from pathlib import Path

N_WRITES = 1_800
N_EDITED = 300
N_KEYS = N_WRITES // 2 + N_EDITED
N_BAD = 90
N_MESSAGES = N_WRITES + N_BAD


def expected(brokers: str) -> None:
    """Write half of all keys once and the others three times, and what is no document between."""
    messages = []
    every = N_WRITES // N_BAD
    for number, document in enumerate(documents(N_WRITES, of=2 * N_EDITED)):
        messages.append(document)
        if number % every == 0:
            messages.append((f"bad-{number // every}".encode(), b"no document"))
    produce(brokers, TOPIC, messages)


def check_dead_letters(flow: Deployment) -> None:
    """Check that each bad message has a letter; a crash may have written some twice."""
    lines = (flow.folder / "dead_letters.jsonl").read_bytes().splitlines()
    letters = [json.loads(line) for line in lines]
    assert {letter["key"] for letter in letters} == {f"bad-{number}" for number in range(N_BAD)}
    assert len({(letter["partition"], letter["offset"]) for letter in letters}) == N_BAD


def clean_run(folder: Path, brokers: str) -> dict[str, dict[str, object]]:
    """Read the whole topic once, without a scratch, into a folder of its own."""
    with deployed(folder, brokers, STREAM_QDRANT_PATH=str(folder / "points")) as flow:
        flow.start()
        flow.wait_for(lambda: committed(brokers) == N_MESSAGES)
        assert flow.stop() == [0]
        check_dead_letters(flow)
    client = QdrantClient(path=str(folder / "points"))
    points = stored(client)
    client.close()
    return points


def _wait_for_upserts(flow: Deployment, server: RunningQdrant, n_more: int) -> None:
    wanted = server.stats()["upserts"] + n_more
    flow.wait_for(lambda: server.stats()["upserts"] >= wanted)


def test_kills_and_rescales_leave_what_one_clean_run_leaves(tmp_path: Path, brokers: str) -> None:
    chance = random.Random(20261122)  # noqa: S311  which moments, not secrets
    expected(brokers)
    reference = clean_run(tmp_path / "clean", brokers)
    assert len(reference) == N_KEYS

    with running_qdrant(tmp_path / "server") as server:
        environment = {
            "STREAM_QDRANT_URL": server.url,
            "STREAM_KAFKA_GROUP": "kills",
        }
        with deployed(tmp_path / "kills", brokers, **environment) as flow:
            for n_workers in (1, 2, 1, 2, 1):
                flow.start(n_workers)
                _wait_for_upserts(flow, server, chance.randrange(1, 25))
                flow.kill()
            flow.start(2, addresses=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
            _wait_for_upserts(flow, server, 1)
            flow.kill()

            flow.start(1)
            client = QdrantClient(url=server.url, check_compatibility=False)
            flow.wait_for(lambda: committed(brokers, group="kills") == N_MESSAGES, within_s=120)
            assert flow.stop() == [0]
            check_dead_letters(flow)
        same(stored(client), reference)
        assert client.count(COLLECTION).count == N_KEYS


def test_kills_at_any_time_lose_nothing_in_a_local_folder(tmp_path: Path, brokers: str) -> None:
    chance = random.Random(7)  # noqa: S311  which moments, not secrets
    expected(brokers)
    reference = clean_run(tmp_path / "clean", brokers)
    points = str(tmp_path / "points")
    environment = {
        "STREAM_QDRANT_PATH": points,
        "STREAM_KAFKA_GROUP": "folder",
        "STREAM_MAX_EPOCH_RECORDS": "60",  # or the first runs would leave nothing to the others
    }
    with deployed(tmp_path / "kills", brokers, **environment) as flow:
        for n_workers in (1, 2, 1, 2, 1):
            flow.start(n_workers)
            flow.let_run(chance.uniform(2.0, 5.5))
            flow.kill()
        flow.start(1)
        flow.wait_for(lambda: committed(brokers, group="folder") == N_MESSAGES, within_s=120)
        assert flow.stop() == [0]
        check_dead_letters(flow)
    client = QdrantClient(path=points)
    same(stored(client), reference)
    client.close()
