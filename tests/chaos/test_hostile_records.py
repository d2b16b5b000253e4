"""A record that hangs, or ends the process, is set aside after some starts; all others arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import produce
from tests.chaos.deployment import (
    COLLECTION,
    MODEL,
    TOPIC,
    Deployment,
    deployed,
    documents,
)
from tests.servers import running_qdrant

N_DOCUMENTS = 60
HOSTILE_FLOW = "tests.chaos.hostile_flow"


def runs_until(flow: Deployment, is_done: Callable[[], bool]) -> int:
    """Start a flow again whenever it ends, as a supervisor does; give how often it ended."""
    n_ends = 0
    while True:
        flow.start()
        try:
            flow.wait_for(is_done, within_s=90)
        except AssertionError:
            if flow.alive():
                raise
            flow.ended()
            n_ends += 1
            assert n_ends < 10, flow.log()[-4000:]
        else:
            return n_ends


@pytest.mark.parametrize("how", ["hang", "die"])
def test_a_hostile_record_is_a_dead_letter_after_three_ends(
    tmp_path: Path, brokers: str, how: str
) -> None:
    messages = documents(N_DOCUMENTS)
    hostile = (b"hostile", json.dumps({"text": how}).encode())
    messages.insert(N_DOCUMENTS // 2, hostile)
    produce(brokers, TOPIC, messages)
    letters = tmp_path / "flow" / "dead_letters.jsonl"
    with running_qdrant(tmp_path / "server") as server:
        client = QdrantClient(url=server.url, check_compatibility=False)

        def all_arrived() -> bool:
            return (
                letters.exists()
                and bool(letters.read_bytes())
                and client.count(COLLECTION).count == N_DOCUMENTS
            )

        environment = {
            "STREAM_MODEL": MODEL,
            "STREAM_MAX_TOKENS": "16",
            "STREAM_QDRANT_URL": server.url,
            "STREAM_BATCH_TIMEOUT_S": "4",
            "STREAM_RECORD_ATTEMPTS": "3",
        }
        with deployed(tmp_path / "flow", brokers, flow=HOSTILE_FLOW, **environment) as flow:
            assert runs_until(flow, all_arrived) == 3
            assert flow.stop() == [0]
        assert client.count(COLLECTION).count == N_DOCUMENTS
    [letter] = [json.loads(line) for line in letters.read_bytes().splitlines()]
    assert letter["key"] == "hostile"
    assert letter["stage"] == "hostile"
    assert "was in stage 'hostile' at the last 3 ends of the flow" in letter["reason"]
