"""
Where failures go: to a Kafka topic with Kafka Connect's header names, or to a JSONL file.

The original key, value, headers and timestamp are kept, so that a mended flow can read them again.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TypeAlias

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from filelock import BaseFileLock, FileLock
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.kafka import Cluster, KafkaSink, Outgoing
from operators.metrics import DEAD_LETTERS, RETRIES
from operators.outages import BrokenFlowError
from operators.records import Failure, Failures
from operators.shards import shard_of, shard_parts
from operators.shutdown import STOP

__all__ = ["DeadLetterFile", "DeadLetterTopic", "as_line", "as_message"]

_LOG = logging.getLogger(__name__)

_CONNECTOR = "fastembed-stream"

_HEADER_OVERHEAD_BYTES = 10
"""The lengths of a header's name and value, at most: Kafka writes each in 1 to 5 bytes."""

_SHORT_KEY_BYTES = 100
"""To leave out a shorter key saves nothing: the header that says so is as long."""

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Someone makes room, or a disk of the network comes back."""

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
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
        return _FilePartition(self._path, self._lock, self._between_processes, step_id)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)


class _FilePartition(StatefulSinkPartition[Failures, None]):
    """Opened for each write: dead letters are rare, and a rotated file is then no surprise."""

    def __init__(
        self, path: Path, lock: threading.Lock, between_processes: BaseFileLock, step_id: str
    ) -> None:
        self._path = path
        self._lock = lock
        self._between_processes = between_processes
        self._step_id = step_id
        self._retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=lambda _: STOP.overdue,
            sleep=_nap,
            before_sleep=self._log,
            reraise=True,
        )

    @override
    def write_batch(self, values: list[Failures]) -> None:
        lines = b"".join(as_line(failure) for failures in values for failure in failures)
        try:
            self._retrying(self._append, lines)
        except OSError as error:
            too_late = ", and the time to drain is over" if _may_pass(error) else ""
            msg = (
                f"Step {self._step_id}: dead letters cannot be written to {self._path}: "
                f"{error}{too_late}. They are repeated on resume."
            )
            raise BrokenFlowError(msg) from error
        DEAD_LETTERS.inc(sum(map(len, values)))

    @override
    def snapshot(self) -> None:
        """All lines are on disk already: see `_append`."""

    def _append(self, lines: bytes) -> None:
        # Synced at once, and not with the epoch: after an error the kernel may have dropped what
        # it held, and a second sync would find nothing wrong.
        with self._lock, self._between_processes, self._path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if size > 0:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":  # a crash has cut the last line
                        lines = b"\n" + lines
                _write_all(file, lines)
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(size)  # of what is written again nothing stays
                raise

    def _log(self, state: RetryCallState) -> None:
        RETRIES.labels("dead_letters").inc()
        error = state.outcome.exception() if state.outcome else None
        after = state.next_action.sleep if state.next_action else 0.0
        _LOG.warning("Dead letters: %s: %s; again in %.1f s", self._path, error, after)


def _write_all(file: FileIO, lines: bytes) -> None:
    left = memoryview(lines)
    while left:  # a nearly full disk takes a part of it
        left = left[file.write(left) :]


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _PASSING


def _nap(seconds: float) -> None:
    """Sleep; only for a moment once the flow should end, so that its time to drain is kept."""
    STOP.wait(seconds)
    if STOP.requested:
        time.sleep(min(seconds, 0.5))


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
        "key": _text(origin.key),
        "value": _text(origin.value),
        "headers": [[name, _text(value)] for name, value in origin.headers],
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


def _text(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
