"""
Each flow keeps the law of delivery: kills, stops and rescales leave what one clean run leaves.

The moments are chosen by chance. Each run has messages of its own to read, and a partition gives
few in an epoch, so that each kill finds one under way and others to come.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from bytewax.testing import run_main
from confluent_kafka import Consumer, KafkaError, TopicPartition
from qdrant_client import QdrantClient

from flows import hybrid_to_qdrant, images_to_qdrant, rerank_queries
from flows.local_broker import create_topic, free_port, produce
from flows.settings import PREFIX, HybridSettings, ImageSettings, QuerySettings
from operators.shutdown import STOP
from tests.chaos.deployment import (
    MODEL,
    N_PARTITIONS,
    TOPIC,
    Deployment,
    committed,
    deployed,
    documents,
    same,
    stored,
)
from tests.fastembed_stream.late_models import write_cross_encoder
from tests.fastembed_stream.tiny_images import CONFIGS, picture, saved, write_image_model
from tests.operators.kafka_things import beside
from tests.operators.things import wait_until
from tests.servers import RunningQdrant, running_qdrant

T = TypeVar("T")
Settings = TypeVar("Settings", HybridSettings, ImageSettings, QuerySettings)

RUNS = ((1, 1), (1, 2), (1, 1), (2, 1), (1, 1))
"""Processes and workers of each run that is killed."""

FEW_AT_A_TIME = {
    "STREAM_MAX_EPOCH_RECORDS": "6",
    "STREAM_WINDOW_RECORDS": "4",
}
QUICK: dict[str, Any] = {"fetch.wait.max.ms": 10}
CLIP = "Qdrant/clip-ViT-B-32-vision"
CLIP_DIM = 512
N_WRITES = 132
N_IMAGES = 72
N_QUESTIONS = 90
ANSWERS = "answers"


def survives(
    flow: Deployment,
    add: Callable[[int], object],
    progress: Callable[[], int],
    chance: random.Random,
) -> None:
    """
    Kill a flow in the middle of each of several runs, then stop one as one should.

    add       gives the flow what it reads in the run of that number
    progress  counts what it has written
    """
    for number, (n_processes, n_workers) in enumerate(RUNS):
        add(number)
        _start(flow, n_workers, n_processes, progress, chance.randrange(1, 5))
        flow.kill()
    add(len(RUNS))
    _start(flow, 1, 1, progress, 1)
    assert flow.stop() == [0]


def _start(
    flow: Deployment, n_workers: int, n_processes: int, progress: Callable[[], int], n_more: int
) -> None:
    """Start a flow, and return when it has written so much more."""
    wanted = progress() + n_more
    flow.start(n_workers, addresses=_addresses(n_processes))
    flow.wait_for(lambda: progress() >= wanted)


def slices(messages: Sequence[T]) -> list[Sequence[T]]:
    """Give each run as many of the messages."""
    n_each = len(messages) // (len(RUNS) + 1)
    return [messages[at : at + n_each] for at in range(0, len(messages), n_each)]


def _addresses(n_processes: int) -> list[str]:
    return [f"127.0.0.1:{free_port()}" for _ in range(n_processes if n_processes > 1 else 0)]


def once(
    flow: Deployment,
    settings: type[Settings],
    build: Callable[[Settings], Any],
    *,
    n_messages: int = 0,
    **changes: Any,
) -> None:
    """
    Run a flow here, from start to end and without a scratch, as its deployment is told.

    n_messages  of its topic; a file ends by itself
    """
    STOP.reset()
    told = {
        name.removeprefix(PREFIX).lower(): text
        for name, text in flow.env().items()
        if name.startswith(PREFIX) and text
    }
    here = settings(**{**told, "kafka_group": "clean", **changes})
    built = build(here)

    def run() -> None:
        run_main(built, epoch_interval=timedelta(seconds=0.2))  # type: ignore[no-untyped-call]  # Bytewax has no types here

    if n_messages:
        [topic] = here.kafka_topics

        def all_done() -> bool:
            return committed(flow.brokers, topic, "clean") == n_messages

        with beside(lambda: wait_until(all_done, 30)):
            run()
    else:
        run()
    here.server.close()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.node.name)  # noqa: S311  which moments, not secrets


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    yield
    STOP.reset()


@pytest.fixture
def image_model(tmp_path: Path) -> dict[str, str]:
    folder = write_image_model(tmp_path / "clip", CONFIGS["CLIP"], dim=CLIP_DIM)
    return {"STREAM_MODEL": CLIP, "STREAM_MODEL_FOLDER": str(folder)}


def over_grpc(server: RunningQdrant) -> dict[str, str]:
    return {
        "STREAM_QDRANT_URL": server.url,
        "STREAM_QDRANT_GRPC": "true",
        "STREAM_QDRANT_GRPC_PORT": str(server.grpc_port),
    }


def reads_all(flow: Deployment, n_messages: int, topic: str = TOPIC) -> None:
    """Let a last run come to the end of the topic, and stop it."""
    flow.start()
    flow.wait_for(lambda: committed(flow.brokers, topic) == n_messages)
    assert flow.stop() == [0]


def points_of(place: str | Path) -> dict[str, dict[str, object]]:
    """Give all points of a server, or of a folder."""
    at: dict[str, Any] = {"url": place, "check_compatibility": False}
    client = QdrantClient(**({"path": str(place)} if isinstance(place, Path) else at))
    points = stored(client)
    client.close()
    return points


def test_a_hybrid_collection_of_documents_in_parts_equals_that_of_one_clean_run(
    tmp_path: Path, brokers: str, chance: random.Random
) -> None:
    # The edited keys have editions of one to five parts; the newest is not the longest.
    parts = slices(documents(N_WRITES, of=32))
    environment = {
        "STREAM_DENSE_MODEL": MODEL,
        "STREAM_LATE_MODEL": f"{MODEL}-tokens",
        "STREAM_CHUNK_TOKENS": "24",
    }
    with running_qdrant(tmp_path / "server") as server:
        told = {**environment, **FEW_AT_A_TIME, **over_grpc(server)}
        with deployed(tmp_path / "flow", brokers, flow="hybrid_to_qdrant", **told) as flow:
            survives(
                flow,
                lambda number: produce(brokers, TOPIC, parts[number]),
                lambda: int(server.stats()["upserts"]),
                chance,
            )
            reads_all(flow, N_WRITES)
            clean = {"qdrant_path": tmp_path / "clean", "window_records": 64}
            for name in ("STREAM_QDRANT_URL", "STREAM_MAX_EPOCH_RECORDS"):
                flow.environment.pop(name)
            once(flow, HybridSettings, hybrid_to_qdrant.build, n_messages=N_WRITES, **clean)
        reference = points_of(tmp_path / "clean")
        assert {"dense", "sparse", "late", "muvera"} == set(_vectors(reference))
        same(points_of(server.url), reference)
    stamps = [_stamp(point) for point in reference.values()]
    for document in {stamp["document"] for stamp in stamps}:
        own = [stamp for stamp in stamps if stamp["document"] == document]
        assert len({stamp["offset"] for stamp in own}) == 1
        assert sorted(stamp["chunk"] for stamp in own) == list(range(own[0]["chunks"]))


def _vectors(points: dict[str, dict[str, Any]]) -> dict[str, Any]:
    vectors: dict[str, Any] = next(iter(points.values()))["vector"]
    return vectors


def _stamp(point: dict[str, Any]) -> dict[str, Any]:
    stamp: dict[str, Any] = point["payload"]["_stream"]
    return stamp


def pictures(n: int) -> list[tuple[bytes, bytes]]:
    """Make images, of every third key several."""
    return [
        (
            f"edited-{number % 9}".encode() if number % 3 == 0 else f"once-{number}".encode(),
            saved(picture(40 + number % 7, 36, seed=number), "PNG"),
        )
        for number in range(n)
    ]


def test_a_collection_of_images_equals_that_of_one_clean_run(
    tmp_path: Path, brokers: str, chance: random.Random, image_model: dict[str, str]
) -> None:
    parts = slices(pictures(N_WRITES))
    with running_qdrant(tmp_path / "server") as server:
        told = {**image_model, **FEW_AT_A_TIME, "STREAM_QDRANT_URL": server.url}
        with deployed(tmp_path / "flow", brokers, flow="images_to_qdrant", **told) as flow:
            survives(
                flow,
                lambda number: produce(brokers, TOPIC, parts[number]),
                lambda: int(server.stats()["upserts"]),
                chance,
            )
            reads_all(flow, N_WRITES)
            for name in ("STREAM_QDRANT_URL", "STREAM_MAX_EPOCH_RECORDS"):
                flow.environment.pop(name)
            clean = {"qdrant_path": tmp_path / "clean"}
            once(flow, ImageSettings, images_to_qdrant.build, n_messages=N_WRITES, **clean)
        reference = points_of(tmp_path / "clean")
        same(points_of(server.url), reference)
    assert len(reference) == len(dict(pictures(N_WRITES)))


def test_each_image_of_a_folder_is_one_line_of_the_output(
    tmp_path: Path, brokers: str, chance: random.Random, image_model: dict[str, str]
) -> None:
    folder, output = tmp_path / "images", tmp_path / "output.jsonl"
    folder.mkdir()
    parts = slices(range(N_IMAGES))

    def add(number: int) -> None:
        for name in parts[number]:
            content = saved(picture(40, 36, seed=name), "PNG")
            (folder / f"{name:03d}.png").write_bytes(content)

    told = {
        **image_model,
        **FEW_AT_A_TIME,
        "STREAM_KAFKA_TOPICS": "",
        "STREAM_INPUT_FOLDER": str(folder),
        "STREAM_OUTPUT_FILE": str(output),
    }
    with deployed(tmp_path / "flow", brokers, flow="images_to_qdrant", **told) as flow:

        def place() -> int:
            """Give the last image that has a line; a resume cuts lines off and writes them anew."""
            lines = output.read_bytes().split(b"\n")[:-1] if output.exists() else []
            return max((json.loads(line)["offset"] for line in lines), default=-1)

        survives(flow, add, place, chance)
        flow.start()
        assert flow.ended() == [0]
        lines = [json.loads(line) for line in output.read_bytes().splitlines()]
        once(flow, ImageSettings, images_to_qdrant.build, output_file=tmp_path / "clean.jsonl")
    reference = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_bytes().splitlines()]
    assert len(lines) == len(reference) == N_IMAGES
    wanted = {line["key"]: line for line in reference}
    assert {line["key"] for line in lines} == wanted.keys()
    for line in lines:
        other = wanted[line["key"]]
        np.testing.assert_allclose(
            line.pop("vectors")["image"], other.pop("vectors")["image"], atol=1e-5
        )
        assert line == other


def questions(n: int) -> list[tuple[bytes, bytes]]:
    return [
        (
            f"question-{number}".encode(),
            json.dumps({"text": f"Who keeps sentence {number}?", "limit": 1 + number % 4}).encode(),
        )
        for number in range(n)
    ]


def test_every_question_is_answered_as_in_one_clean_run(
    tmp_path: Path, brokers: str, chance: random.Random
) -> None:
    for topic in ("questions", ANSWERS, "clean-answers"):
        create_topic(brokers, topic, N_PARTITIONS if topic == "questions" else 1)
    parts = slices(questions(N_QUESTIONS))
    lines = [value for _, value in documents(30)]
    (tmp_path / "documents.jsonl").write_bytes(b"\n".join(lines))
    cross_encoder = write_cross_encoder(tmp_path / "cross", model_file="onnx/model.onnx")
    models = {"STREAM_DENSE_MODEL": MODEL, "STREAM_LATE_MODEL": "none"}
    with running_qdrant() as server:
        told = {**models, **FEW_AT_A_TIME, "STREAM_QDRANT_URL": server.url}
        changes: dict[str, Any] = {"kafka_topics": (), "input_file": tmp_path / "documents.jsonl"}
        with deployed(tmp_path / "fill", brokers, flow="hybrid_to_qdrant", **told) as fill:
            once(fill, HybridSettings, hybrid_to_qdrant.build, **changes)
        told |= {
            "STREAM_KAFKA_TOPICS": "questions",
            "STREAM_RESULTS_TOPIC": ANSWERS,
            "STREAM_RERANK_FOLDER": str(cross_encoder),
            "STREAM_RERANK_CANDIDATES": "8",
        }
        with deployed(tmp_path / "flow", brokers, flow="rerank_queries", **told) as flow:
            survives(
                flow,
                lambda number: produce(brokers, "questions", parts[number]),
                lambda: len(answers(brokers, ANSWERS)),
                chance,
            )
            reads_all(flow, N_QUESTIONS, "questions")
            clean = {"results_topic": "clean-answers", "max_epoch_records": 1_000}
            once(flow, QuerySettings, rerank_queries.build, n_messages=N_QUESTIONS, **clean)
    reference = dict(answers(brokers, "clean-answers"))
    assert len(reference) == N_QUESTIONS
    assert [len(reference[key]["hits"]) for key, _ in questions(4)] == [1, 2, 3, 4]
    given = answers(brokers, ANSWERS)
    assert {key for key, _ in given} == reference.keys()
    for key, answer in given:
        check_answer(answer, reference[key])


def answers(brokers: str, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
    """Give key and value of all messages of a topic of one partition."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "nobody", "enable.partition.eof": True} | QUICK
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[tuple[bytes, dict[str, Any]]] = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        found.append((message.key() or b"", json.loads(message.value() or b"")))
    error = None if message is None else message.error()
    assert error is not None
    assert error.code() == KafkaError._PARTITION_EOF
    consumer.close()
    return found


def check_answer(answer: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that two answers to a question say the same."""
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in wanted["hits"]]
    for hit, other in zip(answer["hits"], wanted["hits"], strict=True):
        assert hit["payload"] == other["payload"]
        np.testing.assert_allclose(hit["score"], other["score"], rtol=1e-4, atol=1e-5)
