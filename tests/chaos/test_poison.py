"""A record that the server fails at each time ends in the dead letters, and holds nobody back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import produce
from tests.chaos.deployment import COLLECTION, ROOT, TOPIC, Deployment, deployed
from tests.servers import RunningQdrant, running_qdrant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_DOCUMENTS = 60
BAD = 17
POISON = "poisonous"
PANIC = "Service internal error: task panicked"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningQdrant]:
    with running_qdrant(tmp_path / "server") as running:
        yield running


@pytest.fixture(params=["rest", "grpc"])
def flow(
    request: pytest.FixtureRequest, tmp_path: Path, brokers: str, server: RunningQdrant
) -> Iterator[Deployment]:
    told = {
        "STREAM_QDRANT_URL": server.url,
        "STREAM_QDRANT_GRPC": str(request.param == "grpc"),
        "STREAM_QDRANT_GRPC_PORT": str(server.grpc_port),
        "STREAM_REQUEST_ATTEMPTS": "3",
    }
    with deployed(tmp_path / "flow", brokers, **told) as deployment:
        yield deployment


def documents() -> list[tuple[bytes, bytes]]:
    texts = [f"{POISON if n == BAD else 'good'} text {n}" for n in range(N_DOCUMENTS)]
    return [
        (b"k%d" % n, json.dumps({"text": text, "n": n}).encode()) for n, text in enumerate(texts)
    ]


def numbers(server: RunningQdrant) -> set[int]:
    client = QdrantClient(url=server.url, check_compatibility=False)
    if not client.collection_exists(COLLECTION):
        return set()
    found, _ = client.scroll(COLLECTION, limit=1000)
    client.close()
    return {(one.payload or {})["n"] for one in found}


def letters(flow: Deployment) -> list[dict[str, Any]]:
    path = flow.folder / "dead_letters.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_one_record_that_gets_500_each_time_holds_nobody_back_even_through_a_kill(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    server.faults("status", status=500, count=None, routes="upsert", about=POISON, message=PANIC)
    produce(brokers, TOPIC, documents())
    flow.start()
    flow.wait_for(lambda: "looking for the one at fault" in flow.log())
    flow.kill()
    flow.start()
    flow.wait_for(lambda: len(letters(flow)) == 1 and len(numbers(server)) == N_DOCUMENTS - 1)
    assert flow.stop() == [0]
    assert numbers(server) == set(range(N_DOCUMENTS)) - {BAD}
    [letter] = letters(flow)
    assert letter["key"] == f"k{BAD}"
    assert PANIC in letter["reason"]
    assert f"key b'k{BAD}'" in flow.log()


def test_one_that_comes_alone_to_a_flow_that_was_just_started_holds_nobody_back(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    server.faults("status", status=500, count=None, routes="upsert", about=POISON, message=PANIC)
    good = [one for n, one in enumerate(documents()) if n != BAD]
    produce(brokers, TOPIC, good)
    flow.start()
    flow.wait_for(lambda: len(numbers(server)) == N_DOCUMENTS - 1)
    assert flow.stop() == [0]
    produce(brokers, TOPIC, [documents()[BAD]])
    flow.start()
    flow.wait_for(lambda: len(letters(flow)) == 1)
    produce(brokers, TOPIC, [(b"last", json.dumps({"text": "good", "n": 1_000}).encode())])
    flow.wait_for(lambda: 1_000 in numbers(server))
    assert flow.stop() == [0]
    assert [letter["key"] for letter in letters(flow)] == [f"k{BAD}"]


def test_while_the_server_fails_at_every_record_none_is_a_dead_letter(
    flow: Deployment, server: RunningQdrant, brokers: str
) -> None:
    produce(brokers, TOPIC, documents())
    server.faults("status", status=500, count=60, routes="upsert")
    flow.start()
    flow.wait_for(lambda: "looking for the one at fault" in flow.log())
    server.clear()
    flow.wait_for(lambda: len(numbers(server)) == N_DOCUMENTS)
    assert flow.stop() == [0]
    assert letters(flow) == []


def test_a_collection_that_no_server_can_have_is_one_sentence_and_exit_code_1() -> None:
    command = [sys.executable, "-m", "bytewax.run", "flows.text_to_qdrant:flow"]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={"STREAM_KAFKA_TOPICS": TOPIC, "STREAM_COLLECTION": "a/b", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "A collection cannot be named 'a/b': it has '/'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
