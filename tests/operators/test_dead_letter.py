"""What fails is kept whole, with the reason, where a mended flow can read it again."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow

from fastembed_stream import SettingError
from operators import Cluster, DeadLetterFile, DeadLetterTopic, Failures
from operators.dead_letter import as_line, as_message
from operators.metrics import DEAD_LETTERS
from tests.operators.kafka_things import new_topic, stored
from tests.operators.things import EntryPoint, Lists, failure, message


def dying(sink: DeadLetterFile | DeadLetterTopic, batches: Sequence[Failures]) -> Dataflow:
    flow = Dataflow("dying")
    lists = {f"p{n}": [(f"0{n % 2}-0", one)] for n, one in enumerate(batches)}
    op.output("out", op.input("in", flow, Lists(lists)), sink)
    return flow


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_topic_gets_the_original_and_connects_headers(
    brokers: str, entry_point: EntryPoint
) -> None:
    topic = new_topic(brokers)
    before = DEAD_LETTERS._value.get()
    sink = DeadLetterTopic(Cluster(brokers=brokers), topic)
    entry_point(dying(sink, [(failure(7),)]))
    [one] = stored(brokers, topic, 1)
    origin = failure(7).origin
    assert (one.key, one.value, one.timestamp_ms) == (b"k", b"bad", origin.timestamp_ms)
    assert one.headers[0] == ("h", b"v")
    assert dict(one.headers[1:]) == {
        "__connect.errors.topic": b"docs",
        "__connect.errors.partition": b"0",
        "__connect.errors.offset": b"7",
        "__connect.errors.connector.name": b"fastembed-stream",
        "__connect.errors.task.id": b"dying.out",
        "__connect.errors.stage": b"decode",
        "__connect.errors.class.name": b"fastembed-stream.decode",
        "__connect.errors.exception.class.name": b"x.BadError",
        "__connect.errors.exception.message": b"bad",
        "__connect.errors.exception.stacktrace": b"at x",
    }
    assert DEAD_LETTERS._value.get() - before == 1


def test_a_value_that_no_broker_would_take_is_left_out_and_its_size_told(brokers: str) -> None:
    topic = new_topic(brokers)
    part = DeadLetterTopic(Cluster(brokers=brokers), topic, max_value_bytes=10).build_part(
        "out", "00", None
    )
    large = replace(failure(1), origin=message(b"x" * 11))
    part.write_batch([(large, failure(2))])
    part.snapshot()
    part.close()
    first, second = stored(brokers, topic, 2)
    assert first.value is None
    assert dict(first.headers)["__connect.errors.value.omitted.bytes"] == b"11"
    assert second.value == b"bad"


def test_a_tombstone_stays_one() -> None:
    dead = as_message(replace(failure(1), origin=message(None, key=None)), "dead", "s", 10)
    assert (dead.key, dead.value, dead.topic) == (None, None, "dead")


def test_a_file_gets_a_line_for_each_failure(tmp_path: Path, entry_point: EntryPoint) -> None:
    path = tmp_path / "new" / "folder" / "dead.jsonl"
    batches = [(failure(10 * n), failure(10 * n + 1)) for n in range(5)]
    entry_point(dying(DeadLetterFile(path), batches))
    found = lines(path)
    assert sorted(line["offset"] for line in found) == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]
    assert found[0] == {
        "topic": "docs",
        "partition": 0,
        "offset": found[0]["offset"],
        "timestamp_ms": 1_700_000_000_000,
        "key": "k",
        "value": "bad",
        "headers": [["h", "v"]],
        "stage": "decode",
        "error_type": "x.BadError",
        "reason": "bad",
        "traceback": "at x",
    }


def test_bytes_that_are_not_text_stand_as_base64() -> None:
    origin = message(b"\xff\x00", key=None, headers=(("h", b"\xfe"), ("n", None)))
    line = json.loads(as_line(replace(failure(1), origin=origin)))
    assert base64.b64decode(line["value"]["base64"]) == b"\xff\x00"
    assert line["key"] is None
    assert line["headers"] == [["h", {"base64": "/g=="}], ["n", None]]


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    origin = message("a\nb\u2028c\r".encode(), key=b"\n")
    assert as_line(replace(failure(1), origin=origin, reason="x\ny")).count(b"\n") == 1


def test_a_line_that_a_crash_has_cut_harms_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    path.write_bytes(as_line(failure(1)) + b'{"topic": "do')
    part = DeadLetterFile(path).build_part("out", "00", None)
    part.write_batch([(failure(2),)])
    part.snapshot()
    whole, cut, new = path.read_bytes().splitlines()
    assert json.loads(whole)["offset"] == 1
    assert cut == b'{"topic": "do'
    assert json.loads(new)["offset"] == 2


def test_writers_at_once_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    # Two processes have two sinks, two workers one; both kinds at once.
    sinks = [DeadLetterFile(path), DeadLetterFile(path)]
    parts = [sink.build_part("out", part, None) for sink in sinks for part in ("00", "01")]
    large = replace(failure(1), reason="x" * 20_000)

    def write(at: int) -> None:
        for _ in range(25):
            parts[at].write_batch([(large,) * 2])

    threads = [threading.Thread(target=write, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(path)) == 4 * 25 * 2


def test_a_file_that_is_rotated_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    part = DeadLetterFile(path).build_part("out", "00", None)
    part.write_batch([(failure(1),)])
    path.rename(tmp_path / "dead.jsonl.1")
    part.write_batch([(failure(2),)])
    part.snapshot()
    assert [line["offset"] for line in lines(path)] == [2]


def test_a_place_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "dead.jsonl", tmp_path):
        with pytest.raises(SettingError, match="Dead letters cannot be written to"):
            DeadLetterFile(path).list_parts()
