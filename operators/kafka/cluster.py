"""Where the brokers are, what they have, and which of their errors pass."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient
from typing_extensions import override

from fastembed_stream.errors import SettingError
from fastembed_stream.redaction import is_secret_name, keep_secret, redacted, shown_options
from operators.kafka.complaints import Client, Complaints, hear, patience
from operators.outages import waited_out

__all__ = [
    "CALL_TIMEOUT_S",
    "TRANSIENT",
    "Cluster",
    "Described",
    "id_of",
    "is_transient",
    "log_of",
    "partitions",
]

_LOG = logging.getLogger(__name__)

CALL_TIMEOUT_S = 10.0
"""Of one question to the brokers."""

TRANSIENT = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001  the binding's own public names
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001  a password is mended while the flow waits
        KafkaError._SSL,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)

_SETUP_TIMEOUT_MS = 10_000
"""A port that never answers a TLS handshake is told of after this, not after librdkafka's 30 s."""

_NO_ID = str(Uuid(0, 0))
"""What brokers before Apache Kafka 2.8 give."""

_OWN = {
    "bootstrap.servers": "it is `brokers`",
    "metadata.broker.list": "it is `brokers`",
    "group.id": "it is `Reading(group=...)`",
    "auto.offset.reset": "a gap in the log must be told, never jumped in silence",
    "enable.auto.commit": "offsets count when their epoch is committed, not before",
    "enable.auto.offset.store": "offsets count when their epoch is committed, not before",
    "enable.partition.eof": "it is `Reading(tail=...)`",
    "enable.idempotence": "without it a retry repeats and reorders messages",
    "message.timeout.ms": "an outage is waited out, and with it a message would be dropped",
    "delivery.timeout.ms": "an outage is waited out, and with it a message would be dropped",
}
"""Options that delivery rests on, and why they are not free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """
    Where the brokers are, and how to talk to them.

    brokers  'host:port', several with commas
    options  settings of librdkafka, such as {"security.protocol": "SASL_SSL"}; those that delivery
             rests on are refused. Secrets among them are never shown
    """

    brokers: str
    options: Mapping[str, str | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.options.items():
            if is_secret_name(name):
                keep_secret(str(value))
        if not self.brokers.strip():
            msg = "Where is Kafka? Expected brokers such as 'localhost:9092'; got nothing."
            raise SettingError(msg)
        for name in self.options:
            if name in _OWN:
                msg = f"Kafka option {name!r} is not free: {_OWN[name]}. Leave it out."
                raise SettingError(msg)

    @override
    def __repr__(self) -> str:
        options = shown_options(self.options)
        return f"Cluster(brokers={redacted(self.brokers)!r}, options={options})"

    def consumer(self, own: Mapping[str, str | int | bool]) -> Consumer:
        """Make a consumer; SettingError where librdkafka refuses an option."""
        return self._made(Consumer, own)

    def producer(self, own: Mapping[str, str | int | bool]) -> Producer:
        """Make a producer; SettingError where librdkafka refuses an option."""
        return self._made(Producer, own)

    def admin(self) -> AdminClient:
        """Make a client for questions; SettingError where librdkafka refuses an option."""
        return self._made(AdminClient, {})

    def _made(self, kind: type[Client], own: Mapping[str, str | int | bool]) -> Client:
        complaints = Complaints(self.brokers)
        config = {
            **own,
            "bootstrap.servers": self.brokers,
            "socket.connection.setup.timeout.ms": _SETUP_TIMEOUT_MS,
            "error_cb": complaints,
            "logger": complaints,
            **{name: _spelled(value) for name, value in self.options.items()},
        }
        try:
            return kind(config)  # type: ignore[arg-type]  # the admin's stub knows no callbacks
        except (KafkaException, TypeError, ValueError) as error:
            why = error.args[0].str() if isinstance(error, KafkaException) else error
            msg = f"Kafka option refused: {why}. See librdkafka's CONFIGURATION.md."
            raise SettingError(msg) from error


def partitions(client: Consumer | Producer, topic: str) -> list[str]:
    """List 'topic/number' of all partitions; waits for brokers that are away."""
    timeouts = patience(lambda: CALL_TIMEOUT_S)

    def ask() -> list[str]:
        try:
            found = client.list_topics(topic, timeout=next(timeouts)).topics[topic]
        finally:
            hear(client)
        if found.error is None:
            return [f"{topic}/{number}" for number in sorted(found.partitions)]
        if found.error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}:  # noqa: SLF001
            known = sorted(name for name in client.list_topics(timeout=CALL_TIMEOUT_S).topics)
            msg = f"No topic {topic!r} at the brokers. Create it first; they have: {known[:20]}."
            raise SettingError(msg)
        unread = KafkaException(found.error)
        if is_transient(unread):
            raise unread
        msg = f"Topic {topic!r} cannot be used: {found.error.str()}. Allow it, or name another."
        raise SettingError(msg)

    return waited_out(f"Kafka topic {topic}", ask, is_transient)


def log_of(cluster: Cluster, asking: Consumer, topic: str) -> str:
    """
    Name the log that a topic has now, by the topic's id: one made again has another.

    Waits for brokers that are away; '' from those that have no ids, or no controller to ask.
    """
    admin = cluster.admin()  # lives until its answer is here

    def ask() -> str:
        try:
            known = asking.list_topics(topic, timeout=CALL_TIMEOUT_S)
        finally:
            hear(asking)
        if known.controller_id not in known.brokers:
            return ""
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_TIMEOUT_S)
        return id_of(described[topic].result())

    try:
        return waited_out(f"the id of Kafka topic {topic}", ask, is_transient)
    except KafkaException as error:
        _LOG.debug("%s: no topic id: %s", topic, error)
        return ""


class Described(Protocol):
    """What brokers tell of a topic, as far as it is used."""

    topic_id: Uuid | None
    partitions: Sequence[object]


def id_of(topic: Described) -> str:
    """Name the log of a topic; '' where the brokers have no ids."""
    found = topic.topic_id
    return str(found) if found is not None and str(found) != _NO_ID else ""


def is_transient(error: BaseException) -> bool:
    """Tell whether the same question can be answered later."""
    if not isinstance(error, KafkaException) or not error.args:
        return False
    cause = error.args[0]
    return isinstance(cause, KafkaError) and (cause.retriable() or cause.code() in TRANSIENT)


def _spelled(value: str | float | bool) -> str:  # noqa: FBT001  as JSON has it
    """Spell a value as librdkafka reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
