"""Where the brokers are, what they have, and which of their errors pass."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from fastembed_stream.errors import SettingError
from operators.outages import waited_out

__all__ = ["CALL_TIMEOUT_S", "TRANSIENT", "Cluster", "is_transient", "partitions"]

_LOG = logging.getLogger(__name__)

CALL_TIMEOUT_S = 10.0
"""Of one question to the brokers."""

TRANSIENT = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001  the binding's own public names
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)

Client = TypeVar("Client", Consumer, Producer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """
    Where the brokers are, and how to talk to them.

    brokers  'host:port', several with commas
    options  any setting of librdkafka, such as {"security.protocol": "SASL_SSL"}
    """

    brokers: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.brokers.strip():
            msg = "Where is Kafka? Expected brokers such as 'localhost:9092'; got nothing."
            raise SettingError(msg)

    def consumer(self, own: Mapping[str, str | int | bool]) -> Consumer:
        """Make a consumer; SettingError where librdkafka refuses an option."""
        return self._made(Consumer, own)

    def producer(self, own: Mapping[str, str | int | bool]) -> Producer:
        """Make a producer; SettingError where librdkafka refuses an option."""
        return self._made(Producer, own)

    def _made(self, kind: type[Client], own: Mapping[str, str | int | bool]) -> Client:
        config = {
            **own,
            "bootstrap.servers": self.brokers,
            "error_cb": _log_error,
            "logger": _LOG,
            **self.options,
        }
        try:
            return kind(config)
        except KafkaException as error:
            msg = f"Kafka option refused: {error.args[0]}. See librdkafka's CONFIGURATION.md."
            raise SettingError(msg) from error


def partitions(client: Consumer | Producer, topic: str) -> list[str]:
    """List 'topic/number' of all partitions; waits for brokers that are away."""

    def ask() -> list[str]:
        found = client.list_topics(topic, timeout=CALL_TIMEOUT_S).topics[topic]
        if found.error is None:
            return [f"{topic}/{number}" for number in sorted(found.partitions)]
        if found.error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}:  # noqa: SLF001
            known = sorted(name for name in client.list_topics(timeout=CALL_TIMEOUT_S).topics)
            msg = f"No topic {topic!r} at the brokers. Create it first; they have: {known[:20]}."
            raise SettingError(msg)
        raise KafkaException(found.error)

    return waited_out(f"Kafka topic {topic}", ask, is_transient)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same question can be answered later."""
    if not isinstance(error, KafkaException) or not error.args:
        return False
    cause = error.args[0]
    return isinstance(cause, KafkaError) and (cause.retriable() or cause.code() in TRANSIENT)


def _log_error(error: KafkaError) -> None:
    _LOG.warning("Kafka: %s", error)
