"""Real flow processes to kill, what they are fed, and what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from qdrant_client import QdrantClient, models

__all__ = [
    "COLLECTION",
    "MODEL",
    "N_PARTITIONS",
    "TOPIC",
    "Deployment",
    "committed",
    "deployed",
    "documents",
    "same",
    "stored",
]

MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"
TOPIC = "documents"
COLLECTION = "documents"
N_PARTITIONS = 3
ROOT = Path(__file__).parents[2]

_OF_TEXT = {"STREAM_MODEL": MODEL, "STREAM_MAX_TOKENS": "16"}
"""A real model, which reads no more of a text than tells it from others: time goes to kills."""


@dataclass(kw_only=True)
class Deployment:
    """
    A flow as it is deployed: `python -m bytewax.run`, a recovery store, and its environment.

    flow  module of `flows`, or a whole path of one that a test brings
    """

    folder: Path
    brokers: str
    environment: dict[str, str] = field(default_factory=dict)
    flow: str = "text_to_qdrant"
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        recovery = self.folder / "recovery"
        recovery.mkdir()
        command = [sys.executable, "-m", "bytewax.recovery", str(recovery), "2"]
        subprocess.run(command, check=True, cwd=ROOT)

    def start(self, n_workers: int = 1, *, addresses: Sequence[str] = ()) -> None:
        """Start the flow's processes, one for each address, and each with so many workers."""
        for number in range(max(len(addresses), 1)):
            module = self.flow if "." in self.flow else f"flows.{self.flow}"
            command = [sys.executable, "-m", "bytewax.run", f"{module}:flow"]
            command += ["-w", str(n_workers), "-s", "1", "-b", "0"]
            command += ["-r", str(self.folder / "recovery")]
            if addresses:
                command += ["-i", str(number), "-a", ";".join(addresses)]
            log = (self.folder / "log").open("ab")
            with log:
                self._running.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=self.env(), stdout=log, stderr=subprocess.STDOUT
                    )
                )

    def kill(self) -> None:
        """End all processes with no chance to say goodbye."""
        for process in self._running:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._running.clear()

    def stop(self, *, within_s: float = 40.0) -> list[int]:
        """Ask all processes to end, and give their exit codes."""
        self.ask_to_end()
        return self.ended(within_s=within_s)

    def ask_to_end(self) -> None:
        """Ask all processes to end, and do not wait."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)

    def ended(self, *, within_s: float = 60.0) -> list[int]:
        """Wait until all processes end by themselves, and give their exit codes."""
        codes = [process.wait(timeout=within_s) for process in self._running]
        self._running.clear()
        return codes

    def alive(self) -> bool:
        """Tell whether all processes run; the log says why not."""
        return all(process.poll() is None for process in self._running)

    def log(self) -> str:
        """Give what the processes have said."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, what: Callable[[], bool], *, within_s: float = 60.0) -> None:
        """Wait until something holds, as long as the flow lives."""
        until = time.monotonic() + within_s
        while not what():
            assert self.alive(), self.log()[-4000:]
            assert time.monotonic() < until, self.log()[-4000:]
            time.sleep(0.05)

    def let_run(self, seconds: float) -> None:
        """Let time pass, as long as the flow lives."""
        until = time.monotonic() + seconds
        self.wait_for(lambda: time.monotonic() >= until, within_s=seconds + 5)

    def env(self) -> dict[str, str]:
        """Give the environment of the processes."""
        return {
            **os.environ,
            "STREAM_KAFKA_BROKERS": self.brokers,
            "STREAM_KAFKA_TOPICS": TOPIC,
            **(_OF_TEXT if self.flow == "text_to_qdrant" else {}),
            "STREAM_COLLECTION": COLLECTION,
            "STREAM_WINDOW_RECORDS": "16",
            # Measured at each start otherwise.
            "STREAM_TOKEN_BUDGET": "256",
            "STREAM_LANES": "1",
            # Kills at random moments are no record's fault, however many come in a row.
            "STREAM_RECORD_ATTEMPTS": "20",
            "STREAM_DEAD_LETTER_FILE": str(self.folder / "dead_letters.jsonl"),
            **self.environment,
        }


@contextmanager
def deployed(
    folder: Path, brokers: str, *, flow: str = "text_to_qdrant", **environment: str
) -> Iterator[Deployment]:
    """Give a deployment, and kill what is left of it."""
    folder.mkdir()
    deployment = Deployment(folder=folder, brokers=brokers, environment=environment, flow=flow)
    try:
        yield deployment
    finally:
        deployment.kill()


def documents(n: int, *, of: int | None = None) -> list[tuple[bytes, bytes]]:
    """
    Make messages, of every second key one only: a lost one is missed.

    of  the other half are writes over that many keys, so that a stale one shows
    """
    messages = []
    for number in range(n):
        key = f"edited-{number % of}" if of and number % 2 else f"written-once-{number}"
        text = f"Sentence {number}: {_WORDS[number % len(_WORDS)]} " * (1 + number % 7)
        messages.append((key.encode(), json.dumps({"text": text, "number": number}).encode()))
    return messages


_WORDS = (
    "a broker keeps its log in order",
    "the window closes when its oldest record has waited long enough",
    "offsets mean nothing between two partitions",
    "an outage is waited out and a bad record is set aside",
    "whoever takes this over next year reads the tests first",
)


def stored(client: QdrantClient) -> dict[str, dict[str, object]]:
    """Give all points of the collection by id: payload and vector."""
    if not client.collection_exists(COLLECTION):
        return {}
    points: list[models.Record] = []
    offset: models.ExtendedPointId | None = None
    while True:
        page, offset = client.scroll(
            COLLECTION, limit=500, offset=offset, with_vectors=True, with_payload=True
        )
        points += page
        if offset is None:
            break
    return {str(point.id): {"payload": point.payload, "vector": point.vector} for point in points}


def same(left: dict[str, dict[str, object]], right: dict[str, dict[str, object]]) -> None:
    """Check that two collections have the same points, payloads and vectors."""
    missing = [right[key]["payload"] for key in right.keys() - left.keys()]
    surplus = [left[key]["payload"] for key in left.keys() - right.keys()]
    assert (missing, surplus) == ([], []), f"missing: {missing}, surplus: {surplus}"
    for key, point in left.items():
        assert point["payload"] == right[key]["payload"]
        ours, theirs = _numbers(point["vector"]), _numbers(right[key]["vector"])
        assert ours.keys() == theirs.keys()
        for name, numbers in ours.items():
            np.testing.assert_allclose(numbers, theirs[name], rtol=1e-4, atol=1e-5)


def _numbers(vectors: Any) -> dict[str, Any]:
    """Give named vectors as numbers; of a sparse one, those of each index, in order."""
    return {
        name: sorted(zip(one.indices, one.values, strict=True))
        if isinstance(one, models.SparseVector)
        else one
        for name, one in vectors.items()
    }


def committed(brokers: str, topic: str = TOPIC, group: str = "fastembed-stream") -> int:
    """Ask as a lag tool does: messages that the group is done with."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group})
    try:
        numbers = consumer.list_topics(topic, timeout=5).topics[topic].partitions
        parts = [TopicPartition(topic, number) for number in numbers]
        return sum(max(part.offset, 0) for part in consumer.committed(parts, timeout=5))
    finally:
        consumer.close()
