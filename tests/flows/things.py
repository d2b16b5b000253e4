"""What the tests of flows share: the ways to run one, what it reads, and what it leaves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from qdrant_client import QdrantClient, models

from fastembed_stream import SettingError, SparseEmbedding
from flows import hybrid_to_qdrant, images_to_qdrant, rerank_queries
from flows.local_broker import create_topic, free_port, produce
from flows.settings import HybridSettings, ImageSettings, QuerySettings
from tests.chaos.deployment import committed, deployed
from tests.operators.kafka_things import beside
from tests.operators.things import on_workers, wait_until

Way: TypeAlias = Literal["one worker", "two workers", "two processes"]
Flow: TypeAlias = Literal["hybrid_to_qdrant", "images_to_qdrant", "rerank_queries"]
Messages: TypeAlias = Sequence[tuple[bytes, bytes]]

WAYS: tuple[Way, ...] = ("one worker", "two workers", "two processes")
_WORKERS: Mapping[Way, int] = {"one worker": 0, "two workers": 2}
_FLOWS: Mapping[Flow, tuple[Callable[..., Any], Callable[..., Dataflow]]] = {
    "hybrid_to_qdrant": (HybridSettings, hybrid_to_qdrant.build),
    "images_to_qdrant": (ImageSettings, images_to_qdrant.build),
    "rerank_queries": (QuerySettings, rerank_queries.build),
}

_N_MESSAGES: dict[str, int] = {}
"""Of each topic; the broker's own count of them is wrong."""

DENSE = "fastembed-stream/all-MiniLM-L6-v2-int8"
LATE = f"{DENSE}-tokens"
WORDS = "Qdrant/bm25"
CLIP = "Qdrant/clip-ViT-B-32-vision"
CLIP_DIM = 512


def run(way: Way, flow: Flow, folder: Path, told: Mapping[str, str]) -> None:
    """
    Run a flow to the end of its topic, or of its file.

    told  settings by name, as the environment has them
    """
    told = {"dead_letter_file": str(folder / "dead.jsonl"), "window_records": "5", **told}
    topic, brokers = told.get("kafka_topics", ""), told.get("kafka_brokers", "")

    def all_done() -> bool:
        return committed(brokers, topic, topic) == _N_MESSAGES[topic]

    if topic:
        told["kafka_group"] = topic
    if way == "two processes":
        environment = {f"STREAM_{name}".upper(): value for name, value in told.items()}
        environment = {"STREAM_KAFKA_TOPICS": "", **environment}
        with deployed(folder / "cluster", brokers, flow=flow, **environment) as cluster:
            cluster.start(addresses=[f"127.0.0.1:{free_port()}" for _ in range(2)])
            if topic:
                cluster.wait_for(all_done)
                assert cluster.stop() == [0, 0]
            else:
                assert cluster.ended() == [0, 0], cluster.log()
        return
    settings, build = _FLOWS[flow]
    here = settings(**told)
    built = build(here)
    if topic:
        with beside(lambda: wait_until(all_done, 30)):
            on_workers(_WORKERS[way])(built, epoch_interval=timedelta(seconds=0.2))
    else:
        on_workers(_WORKERS[way])(built)
    here.server.close()


def refused(flow: Flow, told: Mapping[str, str]) -> str:
    """Give the reason for which a flow cannot be built."""
    settings, build = _FLOWS[flow]
    here = settings(**told)
    try:
        on_workers(0)(build(here))
    except Exception as error:  # noqa: BLE001  Bytewax wraps what is raised while it starts
        cause: BaseException = error
        while not isinstance(cause, SettingError):
            assert cause.__cause__ is not None, cause
            cause = cause.__cause__
        return str(cause)
    finally:
        here.server.close()
    return ""


def topic_of(brokers: str, messages: Messages, n_partitions: int = 3) -> dict[str, str]:
    """Write a topic that no other test has; give the settings that read it."""
    topic = f"t{uuid.uuid4().hex[:12]}"
    create_topic(brokers, topic, n_partitions)
    _N_MESSAGES[topic] = produce(brokers, topic, messages)
    return {"kafka_brokers": brokers, "kafka_topics": topic}


def lines_of(folder: Path, documents: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Write a file of lines; give the settings that read it."""
    file = folder / "input.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in documents))
    return {"input_file": str(file)}


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file that a flow has written."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def stored_in(place: str | Path, collection: str = "documents") -> list[models.Record]:
    """Give all points of a server, or of a folder."""
    if isinstance(place, Path):
        client = QdrantClient(path=str(place))
    else:
        client = QdrantClient(url=place, check_compatibility=False)
    points, _ = client.scroll(collection, limit=1_000, with_vectors=True)
    client.close()
    return points


def same_vector(found: Any, wanted: Any, *, cosine: bool = True) -> None:
    """
    Check that a vector is the one that the engine gives.

    cosine  whether the store keeps its direction alone
    """
    if isinstance(wanted, SparseEmbedding):
        got = found if isinstance(found, dict) else found.model_dump()
        assert dict(zip(got["indices"], got["values"], strict=True)) == pytest.approx(
            dict(zip(wanted.indices.tolist(), wanted.values.tolist(), strict=True)), rel=1e-5
        )
        return
    numbers, other = np.asarray(found, np.float32), np.asarray(wanted, np.float32)
    assert numbers.shape == other.shape
    if cosine:
        other = other / np.linalg.norm(other, axis=-1, keepdims=True)
        numbers = numbers / np.linalg.norm(numbers, axis=-1, keepdims=True)
    np.testing.assert_allclose(numbers, other, rtol=1e-4, atol=2e-5)


def reasons(folder: Path) -> dict[str, str]:
    """Give the reason of each dead letter by its key."""
    letters = read_lines(folder / "dead.jsonl")
    found = {str(one["key"]): one["reason"] for one in letters}
    assert len(found) == len(letters), "a dead letter is there twice"
    return found
