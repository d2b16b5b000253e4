"""One consumer for all partitions of a worker, and how it reads."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from fastembed_stream.errors import SettingError
from operators.kafka.cluster import CALL_TIMEOUT_S, TRANSIENT, Cluster, is_transient, log_of
from operators.kafka.gaps import Gap, OnGap
from operators.metrics import LAST_OFFSET
from operators.outages import BrokenFlowError, waited_out

__all__ = ["Reading", "SharedConsumer"]

_LOG = logging.getLogger(__name__)

_FETCHED_AHEAD_KB = 16 * 1024
_FETCHED_AT_ONCE = 1_000
_CLOSING_TIMEOUT_MS = 6_000


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
        gap = Gap(where=f"{topic}/{partition}", wanted=offset or 0, low=low, high=high)
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
        gap = Gap(where=f"{topic}/{partition}", wanted=resume, low=low, high=high)
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
