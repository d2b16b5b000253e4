"""
Kafka's messages into a flow.

The source keeps its place in Bytewax' recovery store, says what a gap in the log has lost, and
reads no more in one epoch than its budget.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE
from confluent_kafka import Message as KafkaMessage
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.kafka.cluster import Cluster, partitions
from operators.kafka.consuming import Reading, SharedConsumer
from operators.kafka.offsets import Offset
from operators.kafka.remembered import remembered_parts
from operators.metrics import LAST_COMMIT
from operators.pressure import reset, saturated
from operators.records import DamagedMessage, Headers, Message
from operators.shutdown import STOP

__all__ = ["KafkaSource"]

T = TypeVar("T")

_IDLE = timedelta(milliseconds=5)

_SETTLED_WITHIN_S = 1.0
"""A broker says after half a second that there is no more, unless `fetch.wait.max.ms` is other."""


class KafkaSource(FixedPartitionedSource[Message, int]):
    """
    Messages of some topics, one source partition for each Kafka partition.

    Delivery: the next offset of each partition is kept in the recovery store with each epoch; a
    crash reads again from the last commit. Nothing is skipped in silence: where the log no longer
    has the offset, or is another one since the topic was made again, the flow fails and says what
    is gone, or goes on at the start of what there is (`Reading.on_gap`).

    Messages and offsets name the log that their topic had when the flow started, by its id. Where
    brokers have no ids, a topic made again is noticed only while it ends before the offset.

    Partitions are listed at the start. Some that are added later, or a topic that is made again
    while it is read, end the flow for a restart (`Reading.refresh_s`): a process of `flows` with
    its state saved and an exit code of its own, any other with a BrokenFlowError. A topic that was
    part of a recovery store must stay in the list. One that was made again with fewer partitions
    needs `store`, the folder of the recovery store: Bytewax wants all listed that are in there.

    A message that the client cannot read whole comes as a `DamagedMessage`.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Iterable[str],
        reading: Reading = Reading(),  # noqa: B008  frozen
        *,
        store: Path | None = None,
    ) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._reading = reading
        self._store = store
        self._consumers: dict[tuple[int, str], SharedConsumer] = {}
        self._n_partitions: Counter[str] = Counter()
        if not self._topics or not all(self._topics):
            msg = f"Which topics? Expected at least one name; got {list(self._topics)}."
            raise SettingError(msg)

    @override
    def list_parts(self) -> list[str]:
        reset()  # what an earlier flow on this thread has left
        consumer = self._cluster.consumer({"group.id": self._reading.group})
        try:
            parts = [part for topic in self._topics for part in partitions(consumer, topic)]
        finally:
            consumer.close()
        self._n_partitions = Counter(part.rpartition("/")[0] for part in parts)
        remembered = remembered_parts(self._store, self._topics) if self._store else set()
        return parts + sorted(remembered.difference(parts))

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> StatefulSourcePartition[Message, int]:
        whose = (threading.get_ident(), step_id)  # one source may feed several inputs
        if whose not in self._consumers or self._consumers[whose].started:
            self._consumers[whose] = SharedConsumer(self._cluster, self._reading)
        topic, _, number = for_part.rpartition("/")
        shared, partition = self._consumers[whose], int(number)
        n_partitions = self._n_partitions[topic] or None
        if n_partitions is not None and partition >= n_partitions:
            place = shared.add_absent(topic, partition, resume_state, n_partitions)
            return _Absent(shared, place, self._reading)
        shared.add(topic, partition, resume_state, n_partitions)
        return _Partition(shared, topic, partition, self._reading)


class _Partition(StatefulSourcePartition[Message, int]):
    """One Kafka partition: its place, and what is left of its budget in this epoch."""

    def __init__(
        self, shared: SharedConsumer, topic: str, partition: int, reading: Reading
    ) -> None:
        self._shared = shared
        self._topic = topic
        self._partition = partition
        self._reading = reading
        self._records_left = reading.max_epoch_records
        self._bytes_left = reading.max_epoch_bytes
        self._finished: int | None = None
        self._committed: int | None = None
        self._idle = False
        self._ends_before: float | None = None

    @override
    def next_batch(self) -> list[Message]:
        self._commit_finished()
        self._shared.watch()
        if self._shared.at_end(self._topic, self._partition):
            raise StopIteration
        if STOP.requested:
            return self._end()
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
        self._finished = self._shared.position(self._topic, self._partition)
        return Offset(self._finished, self._shared.log(self._topic))

    @override
    def close(self) -> None:
        self._shared.release()

    def _end(self) -> list[Message]:
        """End as soon as the place to go on at is known, or a broker has had its time to say it."""
        if self._ends_before is None:
            self._ends_before = time.monotonic() + _SETTLED_WITHIN_S
        is_settled = self._shared.is_settled(self._topic, self._partition)
        if is_settled or time.monotonic() >= self._ends_before:
            raise StopIteration
        self._idle = True
        return []

    def _commit_finished(self) -> None:
        # Bytewax asks for the next epoch's messages only when the last epoch is committed.
        if self._finished is None:
            return
        LAST_COMMIT.set_to_current_time()
        if self._finished != self._committed:
            self._shared.commit(self._topic, self._partition, self._finished)
            self._committed = self._finished
        self._finished = None


class _Absent(StatefulSourcePartition[Message, int]):
    """A partition of the recovery store that the topic does not have: it keeps its place."""

    def __init__(self, shared: SharedConsumer, place: int, reading: Reading) -> None:
        self._shared = shared
        self._place = place
        self._reading = reading

    @override
    def next_batch(self) -> list[Message]:
        self._shared.watch()
        if STOP.requested or not self._reading.tail:
            raise StopIteration
        return []

    @override
    def next_awake(self) -> datetime | None:
        return datetime.now(timezone.utc) + _IDLE

    @override
    def snapshot(self) -> int:
        return self._place

    @override
    def close(self) -> None:
        self._shared.release()


def _message(message: KafkaMessage, log: str = "") -> Message:
    try:
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
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, the neighbours are read
        return _salvaged(message, log, error)


def _salvaged(message: KafkaMessage, log: str, error: Exception) -> DamagedMessage:
    """
    Take what can be had of a message that cannot be read whole.

    Headers are read last, and not asked for again: when the client has failed at one, its next
    answer holds null pointers.
    """
    damage: dict[str, str] = {}

    def had(what: str, read: Callable[[], T], instead: T) -> T:
        try:
            return read()
        except MemoryError:
            raise
        except Exception as own:  # noqa: BLE001  as above
            damage[what] = _cause(own)
            return instead

    key = had("key", message.key, None)
    value = had("value", message.value, None)
    kind, stamp = had("timestamp", message.timestamp, (TIMESTAMP_NOT_AVAILABLE, 0))
    headers: Headers = ()
    if damage:
        headers = had("headers", lambda: _headers(message), ())
    else:
        damage["headers"] = _cause(error)
    return DamagedMessage(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=key,
        value=value,
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else stamp,
        headers=headers,
        log=log,
        damage="; ".join(f"{what}: {why}" for what, why in damage.items()),
    )


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error  # of a SystemError, what the client has left behind
    return f"{type(cause).__name__}: {cause}"


def _headers(message: KafkaMessage) -> Headers:
    found = message.headers() or ()
    pairs = found.items() if isinstance(found, dict) else found
    return tuple(
        (name, value.encode() if isinstance(value, str) else value) for name, value in pairs
    )
