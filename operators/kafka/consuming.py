"""One consumer for all partitions of a worker, and how it reads."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from fastembed_stream.errors import SettingError
from operators.kafka.cluster import CALL_TIMEOUT_S, TRANSIENT, Cluster, is_transient, log_of
from operators.kafka.gaps import Gap, OnGap
from operators.kafka.offsets import Offset, log_named
from operators.kafka.watching import TopicWatch, end_for_a_restart
from operators.metrics import LAST_OFFSET
from operators.outages import BrokenFlowError, waited_out

__all__ = ["Reading", "SharedConsumer"]

_LOG = logging.getLogger(__name__)

_FETCHED_AHEAD_KB = 16 * 1024
_FETCHED_AT_ONCE = 1_000
_CLOSING_TIMEOUT_MS = 6_000

_GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.INCONSISTENT_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  the binding's own public names
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
"""What is said of a topic that was read, and has been deleted."""


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
    on_gap                 what to do where the log no longer has the offset to resume from, or the
                           topic was made again: 'fail' and say what is lost, or 'continue' with a
                           warning at the start of what there is
    isolation              'read_uncommitted' gives messages of open and aborted transactions too.
                           `isolation.level` among the cluster's options goes before it
    refresh_s              seconds between two looks for partitions added and topics made again
    max_epoch_records      most messages of a partition in one epoch
    max_epoch_bytes        most bytes of a partition in one epoch: bounds memory
    max_batch              most messages that all partitions of a worker hand on at once
    tail                   wait for more at the end; False ends at the end of the log, whenever
                           that is reached
    """

    group: str = "fastembed-stream"
    start: Literal["earliest", "latest"] = "earliest"
    on_gap: OnGap = "fail"
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    refresh_s: float = 15.0
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
        if self.isolation not in {"read_committed", "read_uncommitted"}:
            msg = f"isolation={self.isolation!r}: expected 'read_committed' or 'read_uncommitted'."
            raise SettingError(msg)
        if not 0 < self.refresh_s < math.inf:
            msg = f"refresh_s={self.refresh_s}: expected seconds, more than 0."
            raise SettingError(msg)
        for name in ("max_epoch_records", "max_epoch_bytes", "max_batch"):
            if getattr(self, name) < 1:
                msg = f"Reading({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)


class SharedConsumer:
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
                "isolation.level": reading.isolation,
                # Only the end of a log tells that what follows the last message is none.
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": _FETCHED_AHEAD_KB,
                # No membership hangs on it, but closing waits so long for a broker that is away.
                "session.timeout.ms": _CLOSING_TIMEOUT_MS,
            }
        )
        self._queues: dict[tuple[str, int], deque[KafkaMessage]] = {}
        self._starts: list[TopicPartition] = []
        self._next: dict[tuple[str, int], int] = {}  # after the last message that was taken
        self._no_more_before: dict[tuple[str, int], int] = {}
        self._ended: set[tuple[str, int]] = set()
        self._logs: dict[str, str] = {}
        self._watch = TopicWatch(cluster, reading.refresh_s)
        self._open = 0
        self.started = False

    def add(
        self, topic: str, partition: int, resume: int | None, n_partitions: int | None = None
    ) -> None:
        """
        Take on a partition.

        n_partitions  how many the topic has had when they were listed
        """
        self._learn(topic, resume, n_partitions)
        offset = self._first_offset(topic, partition, resume)
        self._queues[topic, partition] = deque()
        self._next[topic, partition] = offset
        self._starts.append(TopicPartition(topic, partition, offset))
        self._open += 1

    def add_absent(
        self, topic: str, partition: int, resume: int | None, n_partitions: int
    ) -> Offset:
        """Take on a partition that the topic does not have; give the place to keep for it."""
        log = self._learn(topic, resume, n_partitions)
        self._open += 1
        if not resume:
            return Offset(0, log)
        if log and log_named(resume) == log:
            return Offset(resume, log)  # a broker that lags behind: the watch sees when it is there
        gap = Gap(
            topic=topic,
            partition=partition,
            wanted=resume,
            low=0,
            high=0,
            was=log_named(resume),
            now=log,
        )
        return Offset(gap.jumped(self._reading.on_gap), log)

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
        taken = [queue.popleft() for _ in range(min(limit, len(queue)))]
        if taken:
            self._next[topic, partition] = int(taken[-1].offset() or 0) + 1
        return taken

    def position(self, topic: str, partition: int) -> int:
        """
        Tell where reading goes on after all that was taken.

        It is past what is no message: a transaction's marker, what was aborted, what compaction has
        taken. So lag tools see nothing left at the end of a log, and retention can take those.
        """
        queue = self._queues[topic, partition]
        if queue:
            return int(queue[0].offset() or 0)
        where = (topic, partition)
        return max(self._next[where], self._no_more_before.get(where, 0))

    def is_settled(self, topic: str, partition: int) -> bool:
        """
        Tell whether it is known what follows all that was taken: a message, or the end of the log.

        A place that is kept before that may be one of a marker, whose loss would look like that of
        a message. It reads ahead to know, and never waits.
        """
        if self.started and sum(map(len, self._queues.values())) < _FETCHED_AT_ONCE:
            try:
                self._fetch()
            except BrokenFlowError as error:  # the next start tells it, and this one only ends
                _LOG.debug("%s/%d: %s", topic, partition, error)
                return True
        where = (topic, partition)
        is_at_end = self._no_more_before.get(where, -1) >= self._next[where]
        return bool(self._queues[where]) or is_at_end or not self.started

    def watch(self) -> None:
        """Look for topics that have changed, when it is time."""
        if self._watch.look() and self.started:
            for topic, partition in self._queues:
                self._check_place(topic, partition)

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

    def _learn(self, topic: str, resume: int | None, n_partitions: int | None) -> str:
        """Name the log that a topic has now, and have an eye on it from now on."""
        if topic not in self._logs:
            # Where the brokers cannot say it now, it is the log of the last time until they can.
            log = log_of(self._cluster, self._consumer, topic) or log_named(resume)
            self._logs[topic] = log
            if self._reading.tail:
                self._watch.add(topic, log, n_partitions)
        return self._logs[topic]

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
        topic, partition = str(message.topic()), int(message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            if not self._reading.tail:
                self._ended.add((topic, partition))
            self._no_more_before[topic, partition] = int(message.offset() or 0)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            self._jump_gap(topic, partition, int(message.offset() or 0))
        elif error.code() in _GONE:
            end_for_a_restart(f"{topic} was deleted while it was read ({error})")
        elif error.fatal() or not (error.retriable() or error.code() in TRANSIENT):
            msg = f"Kafka refuses {topic}/{partition}: {error}."
            raise BrokenFlowError(msg)
        else:
            _LOG.warning("Kafka: %s; reading goes on when it is back", error)

    def _check_place(self, topic: str, partition: int) -> None:
        """Look whether a log ends before the place to read at, which not all brokers say."""
        where, wanted = TopicPartition(topic, partition), self.position(topic, partition)
        try:
            marks = self._consumer.get_watermark_offsets(where, cached=True)
        except KafkaException:  # nothing is known of it now
            return
        if not 0 <= marks[1] < wanted:
            return
        if self._watermarks(topic, partition)[1] < wanted:  # a new leader may first know less
            self._jump_gap(topic, partition, wanted)

    def _jump_gap(self, topic: str, partition: int, offset: int) -> None:
        """Retention has overtaken the reader, or the topic was made again."""
        known, log = self._logs[topic], log_of(self._cluster, self._consumer, topic)
        if known and log and known != log:
            # What other partitions have fetched may be of either log, and must not be mixed up.
            end_for_a_restart(f"{topic} was made again while it was read")
            return
        start = self._jumped(topic, partition, offset)
        # Not by seek: librdkafka no longer reads a partition whose offset it has given up.
        self._consumer.incremental_unassign([TopicPartition(topic, partition)])
        self._consumer.incremental_assign([TopicPartition(topic, partition, start)])
        self._no_more_before[topic, partition] = start
        if not self._queues[topic, partition]:
            self._next[topic, partition] = start

    def _first_offset(self, topic: str, partition: int, resume: int | None) -> int:
        low, high = self._watermarks(topic, partition)
        if resume is None:
            return low if self._reading.start == "earliest" else high
        same_log = log_named(resume) in {"", self._logs[topic]} or not self._logs[topic]
        if same_log and low <= resume:
            # Beyond the end is for the broker to say, when it is asked to read there.
            return int(resume)
        return self._jumped(topic, partition, resume)

    def _jumped(self, topic: str, partition: int, wanted: int) -> int:
        low, high = self._watermarks(topic, partition)
        gap = Gap(
            topic=topic,
            partition=partition,
            wanted=wanted,
            low=low,
            high=high,
            was=log_named(wanted),
            now=self._logs[topic],
        )
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
