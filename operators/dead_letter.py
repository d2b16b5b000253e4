"""
Where failures go: to a Kafka topic with Kafka Connect's header names, or to a JSONL file.

The original key, value, headers and timestamp are kept, so that a mended flow can read them again.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from filelock import BaseFileLock, FileLock
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.kafka import Cluster, KafkaSink, Outgoing
from operators.metrics import DEAD_LETTERS
from operators.records import Failure, Failures
from operators.shards import shard_of, shard_parts

__all__ = ["DeadLetterFile", "DeadLetterTopic", "as_line", "as_message"]

_CONNECTOR = "fastembed-stream"


class DeadLetterTopic(FixedPartitionedSink[Failures, None]):
    """
    Failures to a Kafka topic, as Kafka Connect writes dead letters.

    max_value_bytes  a larger value is left out, since the broker would refuse the message; its
                     headers say where the original stands

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
    topic, partition and offset tell which.
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
        return _FilePartition(self._path, self._lock, self._between_processes)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)


class _FilePartition(StatefulSinkPartition[Failures, None]):
    """Opened for each write: dead letters are rare, and a rotated file is then no surprise."""

    def __init__(self, path: Path, lock: threading.Lock, between_processes: BaseFileLock) -> None:
        self._path = path
        self._lock = lock
        self._between_processes = between_processes

    @override
    def write_batch(self, values: list[Failures]) -> None:
        lines = b"".join(as_line(failure) for failures in values for failure in failures)
        with self._lock, self._between_processes, self._path.open("a+b") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a crash has cut the last line
                    lines = b"\n" + lines
            file.write(lines)
        DEAD_LETTERS.inc(sum(map(len, values)))

    @override
    def snapshot(self) -> None:
        with self._path.open("ab") as file:
            os.fsync(file.fileno())


def as_message(failure: Failure, topic: str, step_id: str, max_value_bytes: int) -> Outgoing:
    """Dress a failure as Kafka Connect does: the original, and `__connect.errors.*` headers."""
    origin = failure.origin
    told = {
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
    value = origin.value
    if value is not None and len(value) > max_value_bytes:
        told["value.omitted.bytes"] = len(value)
        value = None
    headers = tuple((f"__connect.errors.{name}", str(text).encode()) for name, text in told.items())
    return Outgoing(
        topic=topic,
        key=origin.key,
        value=value,
        headers=origin.headers + headers,
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
        "key": _text(origin.key),
        "value": _text(origin.value),
        "headers": [[name, _text(value)] for name, value in origin.headers],
        "stage": failure.stage,
        "error_type": failure.error_type,
        "reason": failure.reason,
        "traceback": failure.traceback,
    }
    return json.dumps(line).encode() + b"\n"


def _text(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
