"""Messages whose headers have names that are no text, which confluent-kafka's producer cannot."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import confluent_kafka

__all__ = ["produce_with_headers"]

_PRODUCER = 0
_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _HEADER = 1, 3, 4, 5, 7, 9  # rd_kafka_vtype_t
_END = 0
_COPY = 2  # RD_KAFKA_MSG_F_COPY
_WITHIN_MS = 10_000
_LONGEST_ERROR = 512


def produce_with_headers(
    brokers: str,
    topic: str,
    headers: list[tuple[bytes, bytes]],
    *,
    key: bytes,
    value: bytes,
    partition: int = 0,
) -> None:
    """Write a message by librdkafka itself, the one that the client brings, and wait for it."""
    library = ctypes.CDLL(str(_library()))
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(_LONGEST_ERROR)
    length = ctypes.c_size_t(_LONGEST_ERROR)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"bootstrap.servers", brokers.encode(), error, length)
    made = library.rd_kafka_new(_PRODUCER, config, error, length)
    assert made, error.value
    producer = ctypes.c_void_p(made)
    told = [_TOPIC, topic.encode(), _FLAGS, _COPY, _PARTITION, ctypes.c_int32(partition)]
    told += [_VALUE, value, ctypes.c_size_t(len(value)), _KEY, key, ctypes.c_size_t(len(key))]
    for name, content in headers:
        told += [_HEADER, name, content, ctypes.c_ssize_t(len(content))]
    try:
        assert library.rd_kafka_producev(producer, *told, _END) == 0
        assert library.rd_kafka_flush(producer, _WITHIN_MS) == 0
    finally:
        library.rd_kafka_destroy(producer)


def _library() -> Path:
    beside = "confluent_kafka/.dylibs" if sys.platform == "darwin" else "confluent_kafka.libs"
    [found] = (Path(confluent_kafka.__file__).parents[1] / beside).glob("librdkafka*")
    return found
