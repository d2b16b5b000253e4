"""
Kafka's messages into a flow.

The source keeps its place in Bytewax' recovery store, says what a gap in the log has lost, and
reads no more in one epoch than its budget.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeAlias

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.kafka.cluster import (
    CALL_TIMEOUT_S,
    TRANSIENT,
    Cluster,
    is_transient,
    log_of,
    partitions,
)
from operators.metrics import LAST_COMMIT, LAST_OFFSET
from operators.outages import BrokenFlowError, waited_out
from operators.pressure import reset, saturated
from operators.records import Message
from operators.shutdown import STOP

__all__ = ["KafkaSource", "OnGap", "Reading"]

_LOG = logging.getLogger(__name__)

_IDLE = timedelta(milliseconds=5)
_FETCHED_AHEAD_KB = 16 * 1024
_FETCHED_AT_ONCE = 1_000
_CLOSING_TIMEOUT_MS = 6_000

OnGap: TypeAlias = Literal["fail", "continue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    How topics are read.

    group                  consumer group whose offsets show the progress to lag tools; the flow
                           itself resumes from its recovery store
    start                  where a partition begins that the recovery store does not know; 'latest'
                           is for trials: after a kill before the first commit, or with a
                           partition added later, it is the end at that time, and what came
                           before is never read
    on_gap                 what to do where the log no longer has the offset to resume from: 'fail'
                           and say what is lost, or 'continue' with a warning
    max_epoch_records      most messages of a partition in one epoch
    max_epoch_bytes        most bytes of a partition in one epoch: bounds memory
    max_batch              most messages that all partitions of a worker hand on at once
    tail                   wait for more at the end; False ends at the end of the log, whenever
                           that is reached
    """

    group: str = "fastembed-stream"
    start: Literal["earliest", "latest"] = "earliest"
    on_gap: OnGap = "fail"
    max_epoch_records: int = 20_000
    max_epoch_bytes: int = 64 << 20
    max_batch: int = 256
    tail: bool = True

    def __post_init__(self) -> None:
        if self.start not in {"earliest", "latest"}:
            msg = f"start={self.start!r}: expected 'earliest' or 'latest'."
            raise SettingError(msg)
        if self.on_gap not in {"fail", "continue"}:
            msg = f"on_gap={self.on_gap!r}: expected 'fail' or 'continue'."
            raise SettingError(msg)
        for name in ("max_epoch_records", "max_epoch_bytes", "max_batch"):
            if getattr(self, name) < 1:
                msg = f"Reading({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)


class KafkaSource(FixedPartitionedSource[Message, int]):
    """
    Messages of some topics, one source partition for each Kafka partition.

    Delivery: the next offset of each partition is kept in the recovery store with each epoch; a
    crash reads again from the last commit. Nothing is skipped in silence: where the log no longer
    has the offset, the flow fails and says how many messages are gone.

    Messages name the log that their topic had when the flow started, so that offsets of a topic
    made again are not compared with those of the old one. The recovery store does not name it: a
    topic made again needs an empty store, and one that already has grown past the offset is not
    noticed.

    Partitions are listed at the start: restart the flow after adding some. A topic that was part
    of a recovery store must stay in the list.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Iterable[str],
        reading: Reading = Reading(),
    ) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._reading = reading
        self._consumers: dict[tuple[int, str], _SharedConsumer] = {}
        if not self._topics or not all(self._topics):
            msg = f"Which topics? Expected at least one name; got {list(self._topics)}."
            raise SettingError(msg)

    @override
    def list_parts(self) -> list[str]:
        reset()  # what an earlier flow on this thread has left
        consumer = self._cluster.consumer({"group.id": self._reading.group})
        try:
            return [part for topic in self._topics for part in partitions(consumer, topic)]
        finally:
            consumer.close()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> StatefulSourcePartition[Message, int]:
        whose = (threading.get_ident(), step_id)  # one source may feed several inputs
        if whose not in self._consumers or self._consumers[whose].started:
            self._consumers[whose] = _SharedConsumer(self._cluster, self._reading)
        topic, _, number = for_part.rpartition("/")
        return _Partition(self._consumers[whose], topic, int(number), resume_state, self._reading)


class _Partition(StatefulSourcePartition[Message, int]):
    """One Kafka partition: its place, and what is left of its budget in this epoch."""

    def __init__(
        self,
        shared: _SharedConsumer,
        topic: str,
        partition: int,
        resume: int | None,
        reading: Reading,
    ) -> None:
        self._shared = shared
        self._topic = topic
        self._partition = partition
        self._reading = reading
        self._offset = shared.add(topic, partition, resume)
        self._records_left = reading.max_epoch_records
        self._bytes_left = reading.max_epoch_bytes
        self._finished: int | None = None
        self._committed: int | None = None
        self._idle = False

    @override
    def next_batch(self) -> list[Message]:
        self._commit_finished()
        if STOP.requested or self._shared.at_end(self._topic, self._partition):
            raise StopIteration
        limit = min(self._shared.fair_share, self._records_left)
        # Backpressure of Bytewax' own holds only between epochs.
        if limit <= 0 or self._bytes_left <= 0 or saturated():
            self._idle = True
            return []
        taken = self._shared.take(self._topic, self._partition, limit)
        log = self._shared.log(self._topic)
        messages = [_message(message, log) for message in taken]
        self._idle = not messages
        if messages:
            self._offset = messages[-1].offset + 1
            self._records_left -= len(messages)
            self._bytes_left -= sum(len(message.value or b"") for message in messages)
        return messages

    @override
    def next_awake(self) -> datetime | None:
        # Never far ahead: an epoch stays open until its source is called again.
        return datetime.now(timezone.utc) + _IDLE if self._idle else None

    @override
    def snapshot(self) -> int:
        self._records_left = self._reading.max_epoch_records
        self._bytes_left = self._reading.max_epoch_bytes
        self._finished = self._offset
        return self._offset

    @override
    def close(self) -> None:
        self._shared.release()

    def _commit_finished(self) -> None:
        # Bytewax asks for the next epoch's messages only when the last epoch is committed.
        if self._finished is None:
            return
        LAST_COMMIT.set_to_current_time()
        if self._finished != self._committed:
            self._shared.commit(self._topic, self._partition, self._finished)
            self._committed = self._finished
        self._finished = None


class _SharedConsumer:
    """
    One consumer for all partitions of a worker: threads and connections do not grow with them.

    Messages wait in one queue for each partition. Nothing is fetched while any partition still
    has messages waiting, so a busy partition whose budget is spent is not read ahead by the polls
    of its idle siblings.
    """

    def __init__(self, cluster: Cluster, reading: Reading) -> None:
        self._cluster = cluster
        self._reading = reading
        self._consumer = cluster.consumer(
            {
                "group.id": reading.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": not reading.tail,
                "queued.max.messages.kbytes": _FETCHED_AHEAD_KB,
                # No membership hangs on it, but closing waits so long for a broker that is away.
                "session.timeout.ms": _CLOSING_TIMEOUT_MS,
            }
        )
        self._queues: dict[tuple[str, int], deque[KafkaMessage]] = {}
        self._starts: list[TopicPartition] = []
        self._ended: set[tuple[str, int]] = set()
        self._logs: dict[str, str] = {}
        self._open = 0
        self.started = False

    def add(self, topic: str, partition: int, resume: int | None) -> int:
        """Take on a partition; give the offset that it starts at."""
        if topic not in self._logs:
            self._logs[topic] = log_of(self._cluster, self._consumer, topic)
        offset = self._first_offset(topic, partition, resume)
        self._queues[topic, partition] = deque()
        self._starts.append(TopicPartition(topic, partition, offset))
        self._open += 1
        return offset

    @property
    def fair_share(self) -> int:
        """
        Tell how many messages one partition may give at once.

        All partitions of a worker are polled before anything downstream sees a message, so they
        share what may be handed on.
        """
        return max(self._reading.max_batch // len(self._queues), 1)

    def take(self, topic: str, partition: int, limit: int) -> list[KafkaMessage]:
        """Give what is there of one partition, at most `limit` messages; never waits."""
        queue = self._queues[topic, partition]
        if not queue and not any(self._queues.values()):
            self._fetch()
        return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def log(self, topic: str) -> str:
        """Name the log of a topic, as its messages carry it."""
        return self._logs[topic]

    def at_end(self, topic: str, partition: int) -> bool:
        """Tell whether all of a partition was read, for sources that do not wait for more."""
        return (topic, partition) in self._ended and not self._queues[topic, partition]

    def commit(self, topic: str, partition: int, offset: int) -> None:
        """Show progress to lag tools. A failure costs nothing: the flow does not read it back."""
        LAST_OFFSET.labels(topic, str(partition)).set(offset)
        try:
            self._consumer.commit(
                offsets=[TopicPartition(topic, partition, offset)], asynchronous=True
            )
        except KafkaException as error:
            _LOG.debug("offsets of group %s not committed: %s", self._reading.group, error)

    def release(self) -> None:
        """Close the consumer with its last partition."""
        self._open -= 1
        if self._open == 0:
            self._consumer.close()

    def _fetch(self) -> None:
        if not self.started:
            self._consumer.assign(self._starts)
            self.started = True
        for message in self._consumer.consume(_FETCHED_AT_ONCE, timeout=0):
            error = message.error()
            if error is None:
                self._queues[str(message.topic()), int(message.partition() or 0)].append(message)
            else:
                self._handle(message, error)

    def _handle(self, message: KafkaMessage, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._ended.add((str(message.topic()), int(message.partition() or 0)))
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            self._jump_gap(str(message.topic()), int(message.partition() or 0), message.offset())
        elif error.fatal() or not (error.retriable() or error.code() in TRANSIENT):
            msg = f"Kafka refuses {message.topic()}/{message.partition()}: {error}."
            raise BrokenFlowError(msg)
        else:
            _LOG.warning("Kafka: %s; reading goes on when it is back", error)

    def _jump_gap(self, topic: str, partition: int, offset: int | None) -> None:
        """Retention has overtaken the reader, or the topic was made again."""
        low, high = self._watermarks(topic, partition)
        gap = _Gap(where=f"{topic}/{partition}", wanted=offset or 0, low=low, high=high)
        start = TopicPartition(topic, partition, gap.jumped(self._reading.on_gap))
        if log_of(self._cluster, self._consumer, topic) != self._logs[topic]:
            # What other partitions have fetched may be of either log, and must not be mixed up.
            msg = f"{topic} was made again while it was read. A restart reads the new one."
            raise BrokenFlowError(msg)
        # Not by seek: librdkafka no longer reads a partition whose offset it has given up.
        self._consumer.incremental_unassign([TopicPartition(topic, partition)])
        self._consumer.incremental_assign([start])

    def _first_offset(self, topic: str, partition: int, resume: int | None) -> int:
        low, high = self._watermarks(topic, partition)
        if resume is None:
            return low if self._reading.start == "earliest" else high
        if low <= resume:  # beyond the end is for the broker to say, when it is asked to read there
            return resume
        gap = _Gap(where=f"{topic}/{partition}", wanted=resume, low=low, high=high)
        return gap.jumped(self._reading.on_gap)

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        where = TopicPartition(topic, partition, OFFSET_BEGINNING)

        def ask() -> tuple[int, int]:
            marks = self._consumer.get_watermark_offsets(where, timeout=CALL_TIMEOUT_S)
            if marks is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
            low, high = marks
            return max(low, 0), max(high, 0)

        return waited_out(f"offsets of {topic}/{partition}", ask, is_transient)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """A place to resume from that the log of a partition no longer has."""

    where: str
    wanted: int
    low: int
    high: int

    def jumped(self, on_gap: OnGap) -> int:
        """Give the offset to go on from, or fail and say what is lost."""
        if self.wanted < self.low:
            lost = self.low - self.wanted
            what = f"{lost} messages are gone (retention): the log starts at {self.low}"
            advice = (
                "To go on without them, set on_gap='continue'; to read all again, start with an "
                "empty recovery store."
            )
        else:
            what = f"the log ends at {self.high}: the topic was made again"
            advice = (
                "Start with an empty recovery store; to keep this one and go on from the start of "
                "the log, set on_gap='continue'."
            )
        if on_gap == "fail":
            msg = f"{self.where} cannot resume at offset {self.wanted}; {what}. {advice}"
            raise BrokenFlowError(msg)
        _LOG.warning("%s: resume at %d wanted, %s; going on", self.where, self.wanted, what)
        return self.low


def _message(message: KafkaMessage, log: str = "") -> Message:
    kind, stamp = message.timestamp()
    return Message(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=message.key(),
        value=message.value(),
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else stamp,
        headers=_headers(message),
        log=log,
    )


def _headers(message: KafkaMessage) -> tuple[tuple[str, bytes | None], ...]:
    found = message.headers() or ()
    pairs = found.items() if isinstance(found, dict) else found
    return tuple(
        (name, value.encode() if isinstance(value, str) else value) for name, value in pairs
    )
