"""Messages out of a flow, each counted as written when the broker says so."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage
from prometheus_client import Counter
from typing_extensions import override

from operators.kafka.cluster import CALL_TIMEOUT_S, Cluster, partitions
from operators.kafka.refusals import Verdict, judge
from operators.metrics import FAILURES, RESULTS_WRITTEN, RETRIES
from operators.outages import BrokenFlowError
from operators.records import Failure, Failures, Message
from operators.shards import shard_of, shard_parts
from operators.shutdown import STOP

__all__ = ["KafkaSink", "Outgoing", "SinkPartition"]

_LOG = logging.getLogger(__name__)

_ANY_PARTITION = -1  # librdkafka then chooses by the key
_LONGEST_PAUSE_S = 30.0
_STAGE = "kafka"

_OF_BATCHES = frozenset({"batch.num.messages", "linger.ms", "queue.buffering.max.ms"})
"""Options of a user that say how batches are made."""

_EMPTY_ENOUGH = 3
"""Times that a full queue is found empty: once may be another worker's doing."""


class KafkaRefusalError(ValueError):
    """A message that its topic will never take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """
    One message to write.

    partition     None leaves the choice to the key
    timestamp_ms  None takes the time of writing
    origin        the message that it answers, for a dead letter where it is refused
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None
    timestamp_ms: int | None = None
    origin: Message | None = field(default=None, compare=False, repr=False)


Instead: TypeAlias = Callable[[Outgoing, KafkaError], Outgoing | None]
"""What to send in the place of a message that is refused; None where that is settled elsewhere."""

Refused: TypeAlias = FixedPartitionedSink[Failures, None]


class KafkaSink(FixedPartitionedSink[tuple[Outgoing, ...], None]):
    """
    Messages to topics, in tuples.

    refused  where messages go that the broker will never take, such as one that is too large for
             its topic, each as a failure of its `origin`; without it, or an origin, they end the
             flow

    Delivery: at least once. An epoch counts as done when the broker has acknowledged each of its
    messages; a crash writes those since the last commit again. An outage is waited out. A broker
    refuses batches as a whole: the messages of one are then sent one by one, behind those that
    came later, so that a refusal harms no neighbour.
    """

    def __init__(
        self, cluster: Cluster, topics: Iterable[str], *, refused: Refused | None = None
    ) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._refused = refused
        self._lock = threading.Lock()
        self._outbox: _Outbox | None = None

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start; parts are built only when the first message arrives.
        self._opened()
        if self._refused is not None:
            self._refused.list_parts()
        return shard_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[tuple[Outgoing, ...], None]:
        if self._refused is None:
            return SinkPartition(self._opened(), step_id, taken=RESULTS_WRITTEN)
        return _AnsweringPartition(
            self._opened(), step_id, self._refused.build_part(step_id, for_part, None)
        )

    def part(self, step_id: str, instead: Instead) -> SinkPartition:
        """Build a part that asks what to send in the place of a message that is refused."""
        return SinkPartition(self._opened(), step_id, instead)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)

    def _opened(self) -> _Outbox:
        with self._lock:
            if self._outbox is None:
                producer = _producer(self._cluster, {"linger.ms": 5})
                # By a consumer: a producer's question would make the topic, typing error or not.
                asking = self._cluster.consumer({"group.id": "fastembed-stream"})
                for topic in self._topics:
                    partitions(asking, topic)
                asking.close()
                self._outbox = _Outbox(producer, partial(_one_by_one, self._cluster))
            return self._outbox


def _producer(cluster: Cluster, own: dict[str, str | int | bool]) -> Producer:
    return cluster.producer(
        {
            "enable.idempotence": True,
            "message.timeout.ms": 0,  # an outage is waited out, however long
            "message.max.bytes": 64 << 20,  # the broker's limit is the one that counts
            **own,
        }
    )


def _one_by_one(cluster: Cluster) -> Producer:
    """Make a producer whose batches have one message: what is refused is then that one's fault."""
    options = {name: told for name, told in cluster.options.items() if name not in _OF_BATCHES}
    return _producer(replace(cluster, options=options), {"batch.num.messages": 1, "linger.ms": 0})


class _Outbox:
    """
    The producers of a process, shared by its workers.

    alone  makes one whose batches have one message, when the first refusal asks for it
    """

    def __init__(self, producer: Producer, alone: Callable[[], Producer] | None = None) -> None:
        self._producer = producer
        self._make_alone = alone
        self._alone: Producer | None = None
        self._lock = threading.Lock()

    def put(self, message: Outgoing, heard: _Heard, *, alone: bool = False) -> None:
        """
        Hand a message over; `heard` is called with what the broker says.

        raises  KafkaException where it cannot even be handed over
        """
        producer = self._one_by_one() if alone else self._producer
        n_empty = 0
        while True:
            try:
                producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    on_delivery=heard,
                    partition=_ANY_PARTITION if message.partition is None else message.partition,
                    timestamp=message.timestamp_ms or 0,
                )
            except BufferError as error:
                n_empty = 0 if len(producer) else n_empty + 1
                if n_empty > _EMPTY_ENOUGH:  # it is larger than the whole queue
                    raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)) from error
                producer.poll(0.1)  # the queue is full: let the broker take some
                _give_up_when_overdue("Kafka takes no more messages")
                continue
            producer.poll(0)
            return

    def flush(self, check: Callable[[], None] = lambda: None) -> None:
        """
        Wait until the broker has answered for all, however long it is away.

        check  raises where waiting is in vain
        """
        started = time.monotonic()
        for producer in (self._producer, self._alone):
            while left := (0 if producer is None else producer.flush(1.0)):
                check()
                _give_up_when_overdue(f"Kafka has not acknowledged {left} messages")
                waited = time.monotonic() - started
                if waited > CALL_TIMEOUT_S:
                    RETRIES.labels("kafka").inc()
                    _LOG.warning("Kafka has not acknowledged %d messages for %.0f s", left, waited)
                    started = time.monotonic()
        check()

    def _one_by_one(self) -> Producer:
        with self._lock:
            if self._alone is None:
                self._alone = self._producer if self._make_alone is None else self._make_alone()
            return self._alone


_Heard: TypeAlias = Callable[[KafkaError | None, KafkaMessage], None]


@dataclass(frozen=True, slots=True)
class _Untaken:
    """
    A message that the broker did not take.

    alone  whether it was sent as a batch of its own, so that the answer is about it
    """

    message: Outgoing
    error: KafkaError
    alone: bool


class SinkPartition(StatefulSinkPartition[tuple[Outgoing, ...], None]):
    """
    What one worker has sent and the broker did not take.

    instead  asked for each message that is refused; without it a refusal ends the flow
    taken    counts what the broker has acknowledged
    """

    def __init__(
        self,
        outbox: _Outbox,
        step_id: str,
        instead: Instead | None = None,
        taken: Counter | None = None,
    ) -> None:
        self._outbox = outbox
        self._step_id = step_id
        self._instead = instead
        self._taken = taken
        self._untaken: deque[_Untaken] = deque()

    @override
    def write_batch(self, values: list[tuple[Outgoing, ...]]) -> None:
        for messages in values:
            for message in messages:
                self._send(message, alone=False)

    @override
    def snapshot(self) -> None:
        """Return when each message is taken, or settled in another way."""
        self._outbox.flush(self._check)
        pause_s = 0.5
        while self._untaken:
            some = [self._untaken.popleft() for _ in range(len(self._untaken))]
            passing = [one.error for one in some if judge(one.error) is Verdict.PASSES]
            if passing:
                _wait_out(passing, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            for one in some:
                self._again(one)
            self._outbox.flush(self._check)

    def _again(self, one: _Untaken) -> None:
        if judge(one.error) is Verdict.PASSES or not one.alone:
            self._send(one.message, alone=True)
            return
        if self._instead is None:
            raise _refused([one])
        message = self._instead(one.message, one.error)
        if message is not None:
            self._send(message, alone=True)

    def _send(self, message: Outgoing, *, alone: bool) -> None:
        heard = partial(self._hear, message, alone=alone)
        try:
            self._outbox.put(message, heard, alone=alone)
        except KafkaException as failed:
            error: KafkaError = failed.args[0]
            verdict = judge(error)
            if verdict is Verdict.BROKEN or (verdict is Verdict.REFUSED and not self._instead):
                msg = f"Step {self._step_id}: Kafka cannot take a message: {failed}."
                raise BrokenFlowError(msg) from failed
            self._untaken.append(_Untaken(message, error, alone=True))

    def _hear(
        self, message: Outgoing, error: KafkaError | None, _: KafkaMessage, *, alone: bool
    ) -> None:
        if error is not None:
            self._untaken.append(_Untaken(message, error, alone))
        elif self._taken is not None:
            self._taken.inc()

    def _check(self) -> None:
        broken = [one for one in tuple(self._untaken) if judge(one.error) is Verdict.BROKEN]
        if broken:
            raise _refused(broken)


class _AnsweringPartition(SinkPartition):
    """Turns what is refused into failures of the messages that it answers."""

    def __init__(
        self, outbox: _Outbox, step_id: str, letters: StatefulSinkPartition[Failures, None]
    ) -> None:
        super().__init__(outbox, step_id, self._fail, RESULTS_WRITTEN)
        self._letters = letters

    @override
    def snapshot(self) -> None:
        super().snapshot()
        self._letters.snapshot()

    @override
    def close(self) -> None:
        self._letters.close()

    def _fail(self, message: Outgoing, error: KafkaError) -> None:
        if message.origin is None:
            raise _refused([_Untaken(message, error, alone=True)])
        FAILURES.labels(_STAGE).inc()
        why = KafkaRefusalError(f"Kafka topic {message.topic} refuses the message: {error.str()}.")
        self._letters.write_batch([(Failure.of(message.origin, _STAGE, why),)])


def _refused(some: list[_Untaken]) -> BrokenFlowError:
    first = some[0]
    return BrokenFlowError(
        f"Kafka refused {len(some)} messages, the first: {first.message.topic}: {first.error}."
    )


def _wait_out(errors: list[KafkaError], pause_s: float) -> None:
    RETRIES.labels("kafka").inc()
    _LOG.warning(
        "Kafka did not take %d messages (%s); again in %.1f s", len(errors), errors[0], pause_s
    )
    _give_up_when_overdue(f"Kafka has not taken {len(errors)} messages ({errors[0]})")
    _nap(pause_s)


def _nap(seconds: float) -> None:
    STOP.nap(seconds)


def _give_up_when_overdue(what: str) -> None:
    if STOP.overdue:
        msg = f"{what}, and the time to drain is over. They are repeated on resume."
        raise BrokenFlowError(msg)
