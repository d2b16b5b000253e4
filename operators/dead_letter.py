"""
Where failures go: to a Kafka topic with Kafka Connect's header names, or to a JSONL file.

The original key, value, headers and timestamp are kept, so that a mended flow can read them again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from filelock import FileLock
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.files.appending import LineFile
from operators.kafka import Cluster, KafkaSink, Outgoing
from operators.metrics import DEAD_LETTERS
from operators.records import Failure, Failures, Headers, as_text
from operators.shards import shard_of, shard_parts

__all__ = ["DeadLetterFile", "DeadLetterTopic", "as_line", "as_message"]

_CONNECTOR = "fastembed-stream"

_HEADER_OVERHEAD_BYTES = 10
"""The lengths of a header's name and value, at most: Kafka writes each in 1 to 5 bytes."""

_SHORT_KEY_BYTES = 100
"""To leave out a shorter key saves nothing: the header that says so is as long."""

Told: TypeAlias = Mapping[str, str | int]


class DeadLetterTopic(FixedPartitionedSink[Failures, None]):
    """
    Failures to a Kafka topic, as Kafka Connect writes dead letters.

    max_value_bytes  of a dead letter's key, value and headers: the value of a larger one is left
                     out, then original headers and key too, since the broker would refuse it; its
                     headers say what is missing, and where the original stands

    Delivery: at least once; an epoch commits when the broker has each. A crash may repeat some:
    topic, partition and offset in the headers tell which.
    """

    def __init__(self, cluster: Cluster, topic: str, *, max_value_bytes: int = 900_000) -> None:
        self._sink = KafkaSink(cluster, [topic])
        self._topic = topic
        self._max_value_bytes = max_value_bytes

    @override
    def list_parts(self) -> list[str]:
        return self._sink.list_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Failures, None]:
        messages = self._sink.build_part(step_id, for_part, None)
        return _TopicPartition(messages, self._topic, step_id, self._max_value_bytes)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)


class _TopicPartition(StatefulSinkPartition[Failures, None]):
    def __init__(
        self,
        messages: StatefulSinkPartition[tuple[Outgoing, ...], None],
        topic: str,
        step_id: str,
        max_value_bytes: int,
    ) -> None:
        self._messages = messages
        self._topic = topic
        self._step_id = step_id
        self._max_value_bytes = max_value_bytes

    @override
    def write_batch(self, values: list[Failures]) -> None:
        for failures in values:
            self._messages.write_batch(
                [
                    tuple(
                        as_message(failure, self._topic, self._step_id, self._max_value_bytes)
                        for failure in failures
                    )
                ]
            )
            DEAD_LETTERS.inc(len(failures))

    @override
    def snapshot(self) -> None:
        self._messages.snapshot()

    @override
    def close(self) -> None:
        self._messages.close()


class DeadLetterFile(FixedPartitionedSink[Failures, None]):
    """
    Failures to a JSONL file of this machine, shared by its workers and processes.

    Delivery: at least once; an epoch commits when its lines are on disk. A crash may repeat some:
    topic, partition and offset tell which. A full disk is waited out and holds the flow back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        # Without it one process would see another's half-written line, and take it for a cut one.
        self._between_processes = FileLock(f"{path}.lock", thread_local=False)

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start: a bad path fails before the first message is read.
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("ab").close()
        except OSError as error:
            msg = f"Dead letters cannot be written to {self._path}: {error}. Choose another."
            raise SettingError(msg) from error
        return shard_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Failures, None]:
        return _FilePartition(
            LineFile(
                self._path,
                what="dead letters",
                step_id=step_id,
                locks=(self._lock, self._between_processes),
            )
        )

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)


class _FilePartition(StatefulSinkPartition[Failures, None]):
    """Opened for each write: dead letters are rare, and a rotated file is then no surprise."""

    def __init__(self, file: LineFile) -> None:
        self._file = file

    @override
    def write_batch(self, values: list[Failures]) -> None:
        self._file.append(b"".join(as_line(failure) for failures in values for failure in failures))
        DEAD_LETTERS.inc(sum(map(len, values)))

    @override
    def snapshot(self) -> None:
        """All lines are on disk already: see `LineFile.append`."""


def as_message(failure: Failure, topic: str, step_id: str, max_value_bytes: int) -> Outgoing:
    """Dress a failure as Kafka Connect does: the original, and `__connect.errors.*` headers."""
    origin = failure.origin
    told: dict[str, str | int] = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "connector.name": _CONNECTOR,
        "task.id": step_id,
        "stage": failure.stage,
        "class.name": f"{_CONNECTOR}.{failure.stage}",
        "exception.class.name": failure.error_type,
        "exception.message": failure.reason,
        "exception.stacktrace": failure.traceback,
    }
    value, headers, key = origin.value, origin.headers, origin.key
    if value is not None and _size(key, value, headers, told) > max_value_bytes:
        told["value.omitted.bytes"] = len(value)
        value = None
    if headers and _size(key, value, headers, told) > max_value_bytes:
        told["headers.omitted.bytes"] = _size_of_headers(headers)
        headers = ()
    over = _size(key, value, headers, told) > max_value_bytes
    if key is not None and len(key) > _SHORT_KEY_BYTES and over:
        told["key.omitted.bytes"] = len(key)
        key = None
    return Outgoing(
        topic=topic,
        key=key,
        value=value,
        headers=headers + _headers(told),
        timestamp_ms=origin.timestamp_ms,
    )


def as_line(failure: Failure) -> bytes:
    """Give a failure as one line of JSON; bytes that are not UTF-8 stand as base64."""
    origin = failure.origin
    line = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "timestamp_ms": origin.timestamp_ms,
        "key": as_text(origin.key),
        "value": as_text(origin.value),
        "headers": [[name, as_text(value)] for name, value in origin.headers],
        "stage": failure.stage,
        "error_type": failure.error_type,
        "reason": failure.reason,
        "traceback": failure.traceback,
    }
    return json.dumps(line).encode() + b"\n"


def _size(key: bytes | None, value: bytes | None, headers: Headers, told: Told) -> int:
    return len(key or b"") + len(value or b"") + _size_of_headers(headers + _headers(told))


def _size_of_headers(headers: Headers) -> int:
    return sum(
        len(name.encode()) + len(value or b"") + _HEADER_OVERHEAD_BYTES for name, value in headers
    )


def _headers(told: Told) -> Headers:
    # A step's name comes from the flow's author, the rest is clean: no text may stop the letter.
    return tuple(
        (f"__connect.errors.{name}", str(text).encode(errors="backslashreplace"))
        for name, text in told.items()
    )
