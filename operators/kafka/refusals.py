"""What a broker's answer to a message means: it passes, the message is at fault, or neither."""

from __future__ import annotations

from enum import Enum

from confluent_kafka import KafkaError

from operators.kafka.cluster import TRANSIENT

__all__ = ["Verdict", "judge"]


class Verdict(Enum):
    """
    What becomes of a message that was not taken.

    PASSES   an outage: the same message is sent again
    REFUSED  its own fault: neither waiting nor a restart helps
    BROKEN   the flow's or the cluster's: it ends, and a restart repeats the message
    """

    PASSES = "passes"
    REFUSED = "refused"
    BROKEN = "broken"


_REFUSED = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,  # also librdkafka's own, by message.max.bytes
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_MSG,  # older brokers: no key, in a compacted topic
        KafkaError.INVALID_RECORD,
        KafkaError._INVALID_DIFFERENT_RECORD,  # noqa: SLF001  the binding's own public names
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,  # headers, in a topic older than they are
        KafkaError._BAD_MSG,  # noqa: SLF001
    }
)

# librdkafka tries most of these again by itself. Rights come back: someone renews a certificate,
# or an access list that was cut too short.
_PASSES = TRANSIENT | {
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError._AUTHENTICATION,  # noqa: SLF001
    KafkaError._ISR_INSUFF,  # noqa: SLF001
    KafkaError._SSL,  # noqa: SLF001
    KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
}


def judge(error: KafkaError) -> Verdict:
    """
    Tell what an error of one message means.

    >>> judge(KafkaError(KafkaError.INVALID_TIMESTAMP)).name
    'REFUSED'
    >>> judge(KafkaError(KafkaError.NOT_ENOUGH_REPLICAS)).name
    'PASSES'
    """
    if error.fatal():  # this producer takes no more
        return Verdict.BROKEN
    if error.code() in _REFUSED:
        return Verdict.REFUSED
    if error.retriable() or error.code() in _PASSES:
        return Verdict.PASSES
    return Verdict.BROKEN
