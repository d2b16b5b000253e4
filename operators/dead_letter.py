"""
Where failures go: to a Kafka topic with Kafka Connect's header names, or to a JSONL file.

The original key, value, headers and timestamp are kept, so that a mended flow can read them again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError
from filelock import FileLock
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.files.appending import LineFile
from operators.files.places import Place
from operators.kafka import Cluster, KafkaSink, Outgoing
from operators.metrics import DEAD_LETTERS
from operators.progress import PROGRESS
from operators.records import Failure, Failures, Headers, as_text
from operators.shards import shard_of, shard_parts

__all__ = ["DeadLetterFile", "DeadLetterTopic", "as_line", "as_message"]

_LOG = logging.getLogger(__name__)

_CONNECTOR = "fastembed-stream"

_HEADER_OVERHEAD_BYTES = 10
"""The lengths of a header's name and value, at most: Kafka writes each in 1 to 5 bytes."""

_SHORT_BYTES = 100
"""To leave out a shorter key or trace saves nothing: the header that says so is as long."""

_PARTS = ("value", "headers", "key", "exception.stacktrace")
"""What a dead letter leaves out, one after the other, until it is small enough."""

Told: TypeAlias = Mapping[str, str | int]


class DeadLetterTopic(FixedPartitionedSink[Failures, None]):
    """
    Failures to a Kafka topic, as Kafka Connect writes dead letters.

    max_value_bytes  of a dead letter's key, value and headers: of a larger one the value is left
                     out, then original headers, key and the stack trace; its headers say how
                     many bytes are missing, and where the original stands
    otherwise        the file for those that the topic will never take; without it
                     dead_letters.jsonl in the working folder

    A dead letter's timestamp is the time at which it is written: a broker may refuse an older one,
    and a topic with a retention would delete it at once. The original's is a header.

    Delivery: at least once; an epoch commits when the broker has each. A crash may repeat some:
    topic, partition and offset in the headers tell which. An outage is waited out. One that the
    broker refuses, whatever the reason, is sent again with less in it; what it refuses to the
    last goes to the file, with an error in the log.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        max_value_bytes: int = 900_000,
        otherwise: DeadLetterFile | None = None,
    ) -> None:
        self._sink = KafkaSink(cluster, [topic])
        self._topic = topic
        self._max_value_bytes = max_value_bytes
        self._otherwise = otherwise or DeadLetterFile(Path("dead_letters.jsonl"))

    @override
    def list_parts(self) -> list[str]:
        self._otherwise.check()
        return self._sink.list_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Failures, None]:
        refusals = _Refusals(step_id, self._otherwise.lines(step_id))
        messages = self._sink.part(step_id, refusals.instead)
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
            _count(failures)

    @override
    def snapshot(self) -> None:
        self._messages.snapshot()

    @override
    def close(self) -> None:
        self._messages.close()


class _Refusals:
    """What becomes of dead letters that the broker refuses: smaller ones, and at last lines."""

    def __init__(self, step_id: str, file: LineFile) -> None:
        self._step_id = step_id
        self._file = file
        self._told: set[int] = set()

    def instead(self, message: Outgoing, error: KafkaError) -> Outgoing | None:
        """Give the next smaller letter; None where there was none, and the file has it."""
        if not isinstance(message, _Letter):
            raise TypeError(message)
        origin = message.failure.origin
        where = f"{origin.topic}/{origin.partition} at offset {origin.offset}"
        smaller = _smaller(message, self._step_id)
        if smaller is not None:
            # Once for each size: thousands may follow, and their headers tell.
            level = logging.DEBUG if smaller.n_left_out in self._told else logging.WARNING
            self._told.add(smaller.n_left_out)
            _LOG.log(
                level,
                "Kafka topic %s refuses the dead letter of %s (%s): sent again without %s",
                message.topic,
                where,
                error.str(),
                ", ".join(_PARTS[: smaller.n_left_out]),
            )
            return smaller
        with suppress(OSError):  # told by the write that follows
            self._file.path.parent.mkdir(parents=True, exist_ok=True)
        self._file.append(as_line(message.failure))
        _LOG.error(
            "Kafka topic %s refuses the dead letter of %s (%s), also without %s: it is in %s",
            message.topic,
            where,
            error.str(),
            ", ".join(_PARTS),
            self._file.path,
        )
        return None


class DeadLetterFile(FixedPartitionedSink[Failures, None]):
    """
    Failures to a JSONL file of this machine, shared by its workers and processes.

    The process' own output (/dev/stdout, /dev/stderr) and devices such as /dev/null take lines
    too; what they do with them is theirs. Pipes by name, sockets and directories are refused.

    Delivery: at least once; an epoch commits when its lines are on disk. A crash may repeat some:
    topic, partition and offset tell which. A full disk is waited out and holds the flow back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._checked()

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start: a bad path fails before the first message is read.
        place = self._checked()
        try:
            if place.is_stream:
                place.open().close()
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._between_processes():
                    self._path.open("ab").close()
        except OSError as error:
            raise self._unwritable(str(error)) from error
        return shard_parts()

    def check(self) -> None:
        """
        Check that lines could be written, and write nothing: most flows never need the file.

        raises  SettingError where they cannot
        """
        place = self._checked()
        if place.is_file and not place.is_writable:
            why = "permission denied"
            raise self._unwritable(why)

    def lines(self, step_id: str) -> LineFile:
        """Give what writes them."""
        locks: tuple[AbstractContextManager[object], ...] = (self._lock,)
        if self._checked().is_file:
            # Without it one process would see another's half-written line, and take it for a cut
            # one.
            locks += (self._between_processes(),)
        return LineFile(self._path, what="dead letters", step_id=step_id, locks=locks)

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Failures, None]:
        return _FilePartition(self.lines(step_id))

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)

    def _checked(self) -> Place:
        try:
            place = Place.of(self._path)
        except OSError as error:
            raise self._unwritable(str(error)) from error
        if not (place.is_file or place.is_stream):
            why = f"it is {place.kind}"
            raise self._unwritable(why)
        return place

    def _between_processes(self) -> FileLock:
        # One lock for a file, by whatever links it is named.
        return FileLock(f"{self._path.resolve()}.lock", thread_local=False)

    def _unwritable(self, why: str) -> SettingError:
        msg = f"Dead letters cannot be written to {self._path}: {why}. Choose another."
        return SettingError(msg)


class _FilePartition(StatefulSinkPartition[Failures, None]):
    """Opened for each write: dead letters are rare, and a rotated file is then no surprise."""

    def __init__(self, file: LineFile) -> None:
        self._file = file

    @override
    def write_batch(self, values: list[Failures]) -> None:
        self._file.append(b"".join(as_line(failure) for failures in values for failure in failures))
        for failures in values:
            _count(failures)

    @override
    def snapshot(self) -> None:
        """All lines are on disk already: see `LineFile.append`."""


def _count(failures: Failures) -> None:
    DEAD_LETTERS.inc(len(failures))
    PROGRESS.refused(failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter(Outgoing):
    """
    A failure as a message.

    n_left_out  how many of the parts that can be left out were given up
    """

    failure: Failure
    n_left_out: int


def as_message(failure: Failure, topic: str, step_id: str, max_value_bytes: int) -> Outgoing:
    """
    Dress a failure as Kafka Connect does: the original, and `__connect.errors.*` headers.

    Its timestamp is left to the time of writing.
    """
    n_left_out = 0
    letter = _letter(failure, topic, step_id, n_left_out)
    while _size(letter) > max_value_bytes and n_left_out < len(_PARTS):
        n_left_out += 1
        letter = _letter(failure, topic, step_id, n_left_out)
    return letter


def _smaller(letter: _Letter, step_id: str) -> _Letter | None:
    """Give the next smaller letter of the same failure; None where there is none."""
    for n_left_out in range(letter.n_left_out + 1, len(_PARTS) + 1):
        smaller = _letter(letter.failure, letter.topic, step_id, n_left_out)
        if _size(smaller) < _size(letter):
            return smaller
    return None


def _letter(failure: Failure, topic: str, step_id: str, n_left_out: int) -> _Letter:
    """Write a failure without so many of its parts, each with a header that says its size."""
    origin = failure.origin
    headers = tuple((_encodable(name), value) for name, value in origin.headers)
    trace = failure.traceback.encode(errors="backslashreplace")
    sizes = {
        "value": len(origin.value or b""),
        "headers": _size_of_headers(headers),
        "key": len(origin.key or b""),
        "exception.stacktrace": len(trace),
    }
    too_short = {"key": _SHORT_BYTES, "exception.stacktrace": _SHORT_BYTES}
    gone = {name for name in _PARTS[:n_left_out] if sizes[name] > too_short.get(name, 0)}
    told: dict[str, str | int] = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        **({} if origin.timestamp_ms is None else {"timestamp": origin.timestamp_ms}),
        "connector.name": _CONNECTOR,
        "task.id": step_id,
        "stage": failure.stage,
        "class.name": f"{_CONNECTOR}.{failure.stage}",
        "exception.class.name": failure.error_type,
        "exception.message": failure.reason,
        "exception.stacktrace": failure.traceback,
        **{f"{name}.omitted.bytes": sizes[name] for name in _PARTS if name in gone},
    }
    for name in gone:
        told.pop(name, None)
    return _Letter(
        topic=topic,
        key=None if "key" in gone else origin.key,
        value=None if "value" in gone else origin.value,
        headers=(() if "headers" in gone else headers) + _headers(told),
        failure=failure,
        n_left_out=n_left_out,
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


def _size(letter: Outgoing) -> int:
    return len(letter.key or b"") + len(letter.value or b"") + _size_of_headers(letter.headers)


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


def _encodable(name: str) -> str:
    """Spell out what UTF-8 cannot write: a name that was not UTF-8 may stand as surrogates."""
    return name.encode(errors="backslashreplace").decode()
