"""A record that hangs, or ends the process, is set aside after some starts; all others arrive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import produce
from tests.chaos.deployment import (
    MODEL,
    TOPIC,
    Deployment,
    committed,
    deployed,
    documents,
    stored,
)

N_DOCUMENTS = 60
HOSTILE_FLOW = "tests.chaos.hostile_flow"


def runs_until_done(flow: Deployment, n_messages: int) -> int:
    """Start a flow again whenever it ends, as a supervisor does; give how often it ended."""
    n_ends = 0
    while True:
        flow.start()
        try:
            flow.wait_for(lambda: committed(flow.brokers) == n_messages, within_s=90)
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
    points = tmp_path / "points"
    environment = {
        "STREAM_MODEL": MODEL,
        "STREAM_MAX_TOKENS": "16",
        "STREAM_QDRANT_PATH": str(points),
        "STREAM_BATCH_TIMEOUT_S": "2",
    }
    with deployed(tmp_path / "flow", brokers, flow=HOSTILE_FLOW, **environment) as flow:
        assert runs_until_done(flow, len(messages)) == 3
        assert flow.stop() == [0]
        lines = (flow.folder / "dead_letters.jsonl").read_bytes().splitlines()
        [letter] = [json.loads(line) for line in lines]
    assert letter["key"] == "hostile"
    assert letter["stage"] == "hostile"
    assert "was in stage 'hostile' at the last 3 ends of the flow" in letter["reason"]
    client = QdrantClient(path=str(points))
    assert len(stored(client)) == N_DOCUMENTS
    client.close()
