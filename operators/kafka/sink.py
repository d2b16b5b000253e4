"""Messages out of a flow, each counted as written when the broker says so."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage
from typing_extensions import override

from operators.kafka.cluster import CALL_TIMEOUT_S, Cluster, partitions
from operators.metrics import RETRIES
from operators.outages import BrokenFlowError
from operators.shards import shard_of, shard_parts
from operators.shutdown import STOP

__all__ = ["KafkaSink", "Outgoing"]

_LOG = logging.getLogger(__name__)

_ANY_PARTITION = -1  # librdkafka then chooses by the key


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """
    One message to write.

    partition     None leaves the choice to the key
    timestamp_ms  None takes the time of writing
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None
    timestamp_ms: int | None = None


class KafkaSink(FixedPartitionedSink[tuple[Outgoing, ...], None]):
    """
    Messages to topics, in tuples.

    Delivery: at least once. An epoch counts as done when the broker has acknowledged each of its
    messages; a crash writes those since the last commit again. An outage is waited out.
    """

    def __init__(self, cluster: Cluster, topics: Iterable[str]) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._lock = threading.Lock()
        self._outbox: _Outbox | None = None

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start; parts are built only when the first message arrives.
        self._opened()
        return shard_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[tuple[Outgoing, ...], None]:
        return _SinkPartition(self._opened(), step_id)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)

    def _opened(self) -> _Outbox:
        with self._lock:
            if self._outbox is None:
                producer = self._cluster.producer(
                    {
                        "enable.idempotence": True,
                        "message.timeout.ms": 0,  # an outage is waited out, however long
                        "linger.ms": 5,
                        "message.max.bytes": 64 << 20,  # the broker's limit is the one that counts
                    }
                )
                # By a consumer: a producer's question would make the topic, typing error or not.
                asking = self._cluster.consumer({"group.id": "fastembed-stream"})
                for topic in self._topics:
                    partitions(asking, topic)
                asking.close()
                self._outbox = _Outbox(producer)
            return self._outbox


class _Outbox:
    """One producer for the workers of a process, and what the broker has refused."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._refused: deque[str] = deque()

    def put(self, message: Outgoing) -> None:
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    on_delivery=self._delivered,
                    partition=_ANY_PARTITION if message.partition is None else message.partition,
                    timestamp=message.timestamp_ms or 0,
                )
            except BufferError:  # the queue is full: let the broker take some
                self._producer.poll(0.1)
                self._check()
                _give_up_when_overdue("Kafka takes no more messages")
                continue
            self._producer.poll(0)
            return

    def flush(self) -> None:
        """Wait until the broker has all, however long it is away."""
        started = time.monotonic()
        while left := self._producer.flush(1.0):
            self._check()
            _give_up_when_overdue(f"Kafka has not acknowledged {left} messages")
            waited = time.monotonic() - started
            if waited > CALL_TIMEOUT_S:
                RETRIES.labels("kafka").inc()
                _LOG.warning("Kafka has not acknowledged %d messages for %.0f s", left, waited)
                started = time.monotonic()
        self._check()

    def _delivered(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is not None:
            self._refused.append(f"{message.topic()}: {error}")

    def _check(self) -> None:
        if self._refused:
            msg = f"Kafka refused {len(self._refused)} messages, the first: {self._refused[0]}."
            raise BrokenFlowError(msg)


class _SinkPartition(StatefulSinkPartition[tuple[Outgoing, ...], None]):
    def __init__(self, outbox: _Outbox, step_id: str) -> None:
        self._outbox = outbox
        self._step_id = step_id

    @override
    def write_batch(self, values: list[tuple[Outgoing, ...]]) -> None:
        try:
            for messages in values:
                for message in messages:
                    self._outbox.put(message)
        except KafkaException as error:
            msg = f"Step {self._step_id}: Kafka cannot take a message: {error}."
            raise BrokenFlowError(msg) from error

    @override
    def snapshot(self) -> None:
        self._outbox.flush()


def _give_up_when_overdue(what: str) -> None:
    if STOP.overdue:
        msg = f"{what}, and the time to drain is over. They are repeated on resume."
        raise BrokenFlowError(msg)
