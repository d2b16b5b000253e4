"""A topic with every kind of bad message: the good are stored, the bad are kept, none is lost."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bytewax.testing import cluster_main, run_main
from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client import REGISTRY

from flows import text_to_qdrant
from flows.local_broker import create_topic
from flows.settings import TextSettings
from operators import STOP, Server

MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"
LARGE = 5_000_000
WITHIN_S = 30.0

Bytes = bytes | None
Run = Callable[[Any], None]

# By name: the key, the value, and a part of the reason that its dead letter gives.
BAD: Mapping[str, tuple[Bytes, Bytes, str]] = {
    "not JSON": (b"bad1", b"plainly not JSON", "not JSON"),
    "cut off": (b"bad2", b'{"text": "a', "not JSON"),
    "missing text": (b"bad3", b'{"title": "a"}', "Field 'text' is missing"),
    "text is a number": (b"bad4", b'{"text": 7}', "'text' is int; expected a string"),
    "text is null": (b"bad5", b'{"text": null}', "'text' is NoneType; expected a string"),
    "empty text": (b"bad6", b'{"text": ""}', "Field 'text' is empty"),
    "blank text": (b"bad7", b'{"text": " \\t\\n"}', "Field 'text' is empty"),
    "large": (b"bad8", b'{"text": "%s"}' % (b"x" * LARGE), "more than max_text_bytes=1,048,576"),
    "not UTF-8": (b"bad9", b'{"text": "\xff\xfe"}', "not UTF-8"),
    "null value": (b"bad10", None, "value is null"),
    "empty value": (b"bad11", b"", "not JSON"),
    "no key": (None, b'{"text": "a"}', "no key"),
    "empty key": (b"", b'{"text": "a"}', "key is empty"),
    "key not UTF-8": (b"\xff", b'{"text": "a"}', "key is not UTF-8"),
    "array": (b"bad12", b'[{"text": "a"}]', "is a JSON list; expected an object"),
    "half a surrogate pair": (b"bad13", b'{"text": "a\\ud83d"}', "half a surrogate pair"),
    "NaN": (b"bad14", b'{"text": "a", "n": NaN}', "NaN is not JSON"),
    "number too large": (b"bad15", b'{"text": "a", "n": 1e999}', "not JSON compliant"),
    "reserved field": (b"bad16", b'{"text": "a", "_stream": {}}', "reserved"),
    "nested": (b"bad18", b'{"text": "a", "n": %s}' % (b"[" * 60 + b"]" * 60), "nests deeper than"),
    "deeply nested": (b"bad17", b'{"text": ' + b"[" * 100_000, "not JSON"),
}


def good(number: int) -> tuple[bytes, bytes]:
    document = {"text": f"Document {number}: größer und 日本語 🦀", "n": number}
    return b"good%d" % number, json.dumps(document).encode()


def mixed(brokers: str) -> tuple[str, int]:
    """Write a topic of two partitions in which a good document stands after each bad message."""
    topic = f"mixed{uuid.uuid4().hex[:8]}"
    create_topic(brokers, topic, 2)
    producer = Producer({"bootstrap.servers": brokers, "message.max.bytes": 1 << 24})
    for at, (key, value, _) in enumerate(BAD.values()):
        producer.produce(topic, key=key, value=value, partition=at % 2)
        good_key, good_value = good(at)
        producer.produce(topic, key=good_key, value=good_value, partition=at % 2)
    assert producer.flush(30) == 0
    return topic, 2 * len(BAD)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"stream_{name}_total") or 0.0


@contextmanager
def stopped_after(n_messages: int) -> Iterator[dict[str, float]]:
    """Ask the flow of the block to end when so many messages are points or dead letters."""
    names = ("records_read", "points_written", "dead_letters")
    before = {name: counted(name) for name in names}
    seen: dict[str, float] = {}

    def watch() -> None:
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until and not over.wait(0.02):
            done = {name: counted(name) - before[name] for name in names}
            if done["points_written"] + done["dead_letters"] >= n_messages:
                break
        STOP.request()

    over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
    seen.update({name: counted(name) - before[name] for name in names})


def on_two_workers(flow: Any) -> None:
    cluster_main(flow, [], 0, worker_count_per_proc=2)  # type: ignore[no-untyped-call]  # Bytewax has no types here


def letters_of_file(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def letters_of_topic(brokers: str, topic: str, n_messages: int) -> list[dict[str, Any]]:
    """Read dead letters back as the file has them, as far as the headers tell."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "check"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[dict[str, Any]] = []
    until = time.monotonic() + WITHIN_S
    while len(found) < n_messages and time.monotonic() < until:
        for raw in consumer.consume(100, timeout=0.1):
            assert raw.error() is None
            headers = dict(raw.headers() or [])
            told = {
                name.removeprefix("__connect.errors."): value.decode()
                for name, value in headers.items()
                if isinstance(value, bytes)
            }
            found.append(
                {
                    "partition": int(told["partition"]),
                    "offset": int(told["offset"]),
                    "reason": told["exception.message"],
                    "key": raw.key(),
                    "value": raw.value(),
                    "omitted": told.get("value.omitted.bytes"),
                }
            )
    consumer.close()
    return found


def expected_reasons() -> dict[tuple[int, int], str]:
    """Give the reason for each place: bad messages have the even offsets of both partitions."""
    return {(at % 2, at // 2 * 2): reason for at, (_, _, reason) in enumerate(BAD.values())}


def check_letters(letters: list[dict[str, Any]]) -> None:
    reasons = expected_reasons()
    found = {(one["partition"], one["offset"]): one["reason"] for one in letters}
    assert len(letters) == len(BAD)
    assert set(found) == set(reasons)
    wrong = {where: found[where] for where, part in reasons.items() if part not in found[where]}
    assert wrong == {}


def check_points(folder: Path, collection: str) -> None:
    server = Server(path=folder)
    try:
        found, _ = server.client().scroll(collection, limit=1000, with_vectors=True)
    finally:
        server.close()
    payloads = [one.payload or {} for one in found]
    assert sorted(one["n"] for one in payloads) == list(range(len(BAD)))
    assert all(one["text"] == json.loads(good(one["n"])[1])["text"] for one in payloads)
    assert all(isinstance(one.vector, dict) and "dense" in one.vector for one in found)


@pytest.mark.parametrize("run", [run_main, on_two_workers], ids=["one worker", "two workers"])
@pytest.mark.parametrize("place", ["file", "topic"])
def test_the_good_are_stored_each_bad_one_is_kept_and_none_is_lost(
    brokers: str, tmp_path: Path, run: Run, place: str
) -> None:
    topic, n_messages = mixed(brokers)
    dead_topic = f"{topic}-dead"
    create_topic(brokers, dead_topic, 1)
    settings = TextSettings(
        kafka_brokers=brokers,
        kafka_topics=(topic,),
        model=MODEL,
        token_budget=512,
        qdrant_path=tmp_path / "qdrant",
        dead_letter_file=tmp_path / "dead.jsonl",
        dead_letter_topic=dead_topic if place == "topic" else None,
    )
    with stopped_after(n_messages) as seen:
        run(text_to_qdrant.build(settings))
    settings.server.close()
    assert seen == {
        "records_read": n_messages,
        "points_written": n_messages - len(BAD),
        "dead_letters": len(BAD),
    }
    check_points(tmp_path / "qdrant", settings.collection)
    if place == "file":
        check_letters(letters_of_file(tmp_path / "dead.jsonl"))
        return
    letters = letters_of_topic(brokers, dead_topic, len(BAD))
    check_letters(letters)
    kept = {(one["partition"], one["offset"]): one for one in letters}
    for at, (key, value, _) in enumerate(BAD.values()):
        one = kept[at % 2, at // 2 * 2]
        is_large = value is not None and len(value) > 900_000
        # An empty key and none are told apart; the value that no broker would take is told of.
        assert (one["key"], one["value"]) == (key, None if is_large else value)
        assert one["omitted"] == (str(len(value or b"")) if is_large else None)
