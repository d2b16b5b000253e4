"""What fails is kept whole, with the reason, where a mended flow can read it again."""

from __future__ import annotations

import base64
import errno
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import (
    STOP,
    BrokenFlowError,
    Cluster,
    DeadLetterFile,
    DeadLetterTopic,
    Failure,
    Failures,
    Message,
    Outgoing,
    Schema,
)
from operators.dead_letter import as_line, as_message
from operators.decoding import BadRecordError, parse
from operators.files import appending
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
    before, now = DEAD_LETTERS._value.get(), int(time.time() * 1000)
    sink = DeadLetterTopic(Cluster(brokers=brokers), topic)
    entry_point(dying(sink, [(failure(7),)]))
    [one] = stored(brokers, topic, 1)
    assert (one.key, one.value) == (b"k", b"bad")
    assert one.timestamp_ms is not None
    assert one.timestamp_ms >= now, "not the original's: a topic would delete an old one"
    assert one.headers[0] == ("h", b"v")
    assert dict(one.headers[1:]) == {
        "__connect.errors.topic": b"docs",
        "__connect.errors.partition": b"0",
        "__connect.errors.offset": b"7",
        "__connect.errors.timestamp": b"1700000000000",
        "__connect.errors.connector.name": b"fastembed-stream",
        "__connect.errors.task.id": b"dying.out",
        "__connect.errors.stage": b"decode",
        "__connect.errors.class.name": b"fastembed-stream.decode",
        "__connect.errors.exception.class.name": b"x.BadError",
        "__connect.errors.exception.message": b"bad",
        "__connect.errors.exception.stacktrace": b"at x",
    }
    assert DEAD_LETTERS._value.get() - before == 1


def size_of(dead: Outgoing) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in dead.headers)
    return len(dead.key or b"") + len(dead.value or b"") + headers


def told(dead: Outgoing | Message) -> dict[str, bytes | None]:
    prefix = "__connect.errors."
    return {
        name.removeprefix(prefix): value for name, value in dead.headers if name.startswith(prefix)
    }


def test_a_value_that_no_broker_would_take_is_left_out_and_its_size_told(brokers: str) -> None:
    topic = new_topic(brokers)
    part = DeadLetterTopic(Cluster(brokers=brokers), topic, max_value_bytes=1_000).build_part(
        "out", "00", None
    )
    large = replace(failure(1), origin=message(b"x" * 1_001))
    part.write_batch([(large, failure(2))])
    part.snapshot()
    part.close()
    first, second = stored(brokers, topic, 2)
    assert first.value is None
    assert dict(first.headers)["__connect.errors.value.omitted.bytes"] == b"1001"
    assert second.value == b"bad"


def test_key_value_and_headers_count_together_and_the_value_goes_first() -> None:
    origin = message(b"v" * 400_000, key=b"k" * 300_000, headers=(("h", b"h" * 300_000),))
    dead = as_message(replace(failure(1), origin=origin), "dead", "s", 900_000)
    assert (dead.key, dead.value, dead.headers[0]) == (origin.key, None, origin.headers[0])
    assert told(dead)["value.omitted.bytes"] == b"400000"
    assert "headers.omitted.bytes" not in told(dead)


def test_headers_and_then_the_key_go_where_they_alone_are_too_large() -> None:
    origin = message(b"v", key=b"k" * 800_000, headers=(("h", b"h" * 200_000),))
    dead = as_message(replace(failure(1), origin=origin), "dead", "s", 900_000)
    assert (dead.key, dead.value) == (origin.key, None)
    assert told(dead)["headers.omitted.bytes"] == b"200011"
    assert "key.omitted.bytes" not in told(dead)

    origin = message(b"v", key=b"k" * 900_001, headers=(("h", b"h"),))
    dead = as_message(replace(failure(1), origin=origin), "dead", "s", 900_000)
    assert (dead.key, dead.value) == (None, None)
    assert told(dead)["key.omitted.bytes"] == b"900001"
    assert told(dead)["offset"] == b"0"


@given(
    st.none() | st.binary(max_size=4_000),
    st.none() | st.binary(max_size=4_000),
    st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=2_000)), max_size=9),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=2_500),
)
def test_no_dead_letter_is_over_the_limit_whatever_the_message_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], why: str
) -> None:
    origin = message(value, key=key, headers=tuple(headers))
    dead_one = Failure.of(origin, "decode", BadRecordError(why))
    own = as_message(replace(dead_one, origin=message(None, key=None)), "dead", "s", 1)
    limit = size_of(own) + 500  # what is told is never left out, and says up to three sizes
    assert size_of(as_message(dead_one, "dead", "s", limit)) <= limit
    assert json.loads(as_line(dead_one))["reason"] == dead_one.reason


def test_a_header_whose_name_is_not_utf8_keeps_no_letter_from_being_written(
    brokers: str,
) -> None:
    topic = new_topic(brokers)
    origin = message(b"v", headers=(("\udcff\udcfe", b"h"), ("\ud800", None)))
    part = DeadLetterTopic(Cluster(brokers=brokers), topic).build_part("out", "00", None)
    part.write_batch([(replace(failure(1), origin=origin),)])
    part.snapshot()
    [one] = stored(brokers, topic, 1)
    assert one.headers[:2] == (("\\udcff\\udcfe", b"h"), ("\\ud800", None))


def test_a_letter_without_a_time_tells_none() -> None:
    dead = as_message(replace(failure(1), origin=message(b"v")), "dead", "s", 900_000)
    assert "timestamp" not in told(dead)


def test_the_trace_goes_last_and_the_reason_stays() -> None:
    large = replace(failure(1), origin=message(None, key=None), traceback="t" * 8_000)
    dead = as_message(large, "dead", "s", 2_000)
    assert "exception.stacktrace" not in told(dead)
    assert told(dead)["exception.stacktrace.omitted.bytes"] == b"8000"
    assert told(dead)["exception.message"] == b"bad"


@pytest.mark.parametrize(
    "options", [{"message.max.bytes": "3000"}, {"queue.buffering.max.kbytes": "4"}]
)
def test_what_librdkafka_itself_finds_too_large_shrinks_too(
    brokers: str, options: dict[str, str]
) -> None:
    topic = new_topic(brokers)
    cluster = Cluster(brokers=brokers, options=options)
    part = DeadLetterTopic(cluster, topic).build_part("out", "00", None)
    large = replace(failure(1), origin=message(b"x" * 20_000, offset=1))
    part.write_batch([(failure(0), large, failure(2))])
    part.snapshot()
    there = {told(one)["offset"]: one for one in stored(brokers, topic, 3)}
    assert there[b"1"].value is None
    assert told(there[b"1"])["value.omitted.bytes"] == b"20000"
    assert (there[b"0"].value, there[b"2"].value) == (b"bad", b"bad")


def test_a_letter_that_is_refused_to_the_last_is_in_the_file_whatever_folders_it_needs(
    brokers: str, tmp_path: Path
) -> None:
    topic = new_topic(brokers)
    file = tmp_path / "new" / "folder" / "dead.jsonl"
    cluster = Cluster(brokers=brokers, options={"message.max.bytes": "1000"})
    sink = DeadLetterTopic(cluster, topic, otherwise=DeadLetterFile(file))
    sink.list_parts()
    part = sink.build_part("out", "00", None)
    part.write_batch([(replace(failure(1), reason="x" * 2_000), failure(2))])
    part.snapshot()
    assert [line["offset"] for line in lines(file)] == [1]
    assert [told(one)["offset"] for one in stored(brokers, topic, 1)] == [b"2"]


def test_a_file_for_what_the_topic_refuses_is_checked_at_the_start_and_not_made(
    brokers: str, tmp_path: Path
) -> None:
    topic = new_topic(brokers)
    file = tmp_path / "new" / "dead.jsonl"
    DeadLetterTopic(Cluster(brokers=brokers), topic, otherwise=DeadLetterFile(file)).list_parts()
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_half_a_surrogate_pair_is_written_to_topic_and_file(
    brokers: str, tmp_path: Path
) -> None:
    topic = new_topic(brokers)
    origin = message(b'{"\\ud800": 1}')
    with pytest.raises(BadRecordError) as refused:
        parse(Schema(), origin)
    bad = Failure.of(origin, "decode", refused.value)
    path = tmp_path / "dead.jsonl"
    for sink in (DeadLetterTopic(Cluster(brokers=brokers), topic), DeadLetterFile(path)):
        part = sink.build_part("out", "00", None)
        part.write_batch([(bad,)])
        part.snapshot()
        part.close()
    said = "Field 'text' is missing; the object has \\ud800."
    [one] = stored(brokers, topic, 1)
    assert dict(one.headers)["__connect.errors.exception.message"] == said.encode()
    assert [line["reason"] for line in lines(path)] == [said]


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


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that retries would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(appending, "_nap", slept.append)
    return slept


def failing(
    monkeypatch: pytest.MonkeyPatch, where: str, number: int, n_times: int | None = None
) -> None:
    """Let a call of a write fail, a part of the line already in the file."""
    left = itertools.count() if n_times is None else iter(range(n_times))
    real_write, real_sync = appending._write_all, os.fsync

    def write(file: FileIO, lines: bytes) -> None:
        if where == "write" and next(left, None) is not None:
            real_write(file, lines[: len(lines) // 2])
            raise OSError(number, os.strerror(number))
        real_write(file, lines)

    def sync(descriptor: int) -> None:
        if where == "fsync" and next(left, None) is not None:
            raise OSError(number, os.strerror(number))
        real_sync(descriptor)

    monkeypatch.setattr(appending, "_write_all", write)
    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize(
    "fault", [*itertools.product(["write", "fsync"], [errno.ENOSPC, errno.EDQUOT, errno.EIO])]
)
def test_a_full_disk_is_waited_out_and_each_line_is_there_once(
    fault: tuple[str, int],
    tmp_path: Path,
    naps: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "dead.jsonl"
    part = DeadLetterFile(path).build_part("flow.out", "00", None)
    part.write_batch([(failure(1),)])
    failing(monkeypatch, *fault, n_times=3)
    with caplog.at_level(logging.WARNING, "operators.files.appending"):
        part.write_batch([(failure(2), failure(3))])
    part.snapshot()
    assert [line["offset"] for line in lines(path)] == [1, 2, 3]
    assert len(naps) == 3
    assert [os.strerror(fault[1]) in line for line in caplog.messages] == [True] * 3
    assert all(str(path) in line for line in caplog.messages)


def test_a_disk_that_stays_full_past_the_time_to_drain_ends_the_flow_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dead.jsonl"
    part = DeadLetterFile(path).build_part("flow.out", "00", None)
    part.write_batch([(failure(1),)])
    failing(monkeypatch, "write", errno.ENOSPC)
    monkeypatch.setattr(STOP, "drain_s", 0.0)
    STOP.request()
    said = rf"Step flow\.out: .* {path}: .*No space left.*the time to drain is over"
    with pytest.raises(BrokenFlowError, match=said):
        part.write_batch([(failure(2),)])
    assert [line["offset"] for line in lines(path)] == [1]


def test_a_file_that_may_not_be_written_any_more_ends_the_flow_and_names_step_and_path(
    tmp_path: Path, naps: list[float]
) -> None:
    path = tmp_path / "dead.jsonl"
    part = DeadLetterFile(path).build_part("flow.out", "00", None)
    path.mkdir()
    with pytest.raises(BrokenFlowError, match=rf"Step flow\.out: .* {path}: .*[Dd]irectory"):
        part.write_batch([(failure(1),)])
    assert naps == []


def test_a_nap_ends_with_the_request_to_stop() -> None:
    STOP.request()
    started = time.monotonic()
    appending._nap(30)
    assert time.monotonic() - started < 5
