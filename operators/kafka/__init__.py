"""Kafka in and out, on confluent-kafka."""

from operators.kafka.cluster import Cluster
from operators.kafka.sink import KafkaSink, Outgoing
from operators.kafka.source import KafkaSource, OnGap, Reading

__all__ = ["Cluster", "KafkaSink", "KafkaSource", "OnGap", "Outgoing", "Reading"]
