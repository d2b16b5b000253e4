"""Kafka in and out, on confluent-kafka."""

from operators.kafka.cluster import Cluster
from operators.kafka.consuming import Reading
from operators.kafka.gaps import OnGap
from operators.kafka.sink import KafkaSink, Outgoing
from operators.kafka.source import KafkaSource

__all__ = ["Cluster", "KafkaSink", "KafkaSource", "OnGap", "Outgoing", "Reading"]
