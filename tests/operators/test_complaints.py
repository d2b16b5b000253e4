"""What stands between a flow and its brokers is told as what it is: once, then each minute."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from fastembed_stream import SettingError
from flows.local_broker import free_port
from operators import STOP, Cluster, KafkaSink, KafkaSource
from operators.kafka import cluster as cluster_module
from operators.kafka.complaints import Complaints, hear
from operators.outages import SaidOnce, waited_out
from tests.operators.kafka_things import fill, new_topic

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[str]:
    """Give the address of a port at which each connection is served in this way, then closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError, struct.error):
                    serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def no_tls(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"\x00\x00\x00\x06no tls")


def tls(connection: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with context.wrap_socket(connection, server_side=True) as secure:
        secure.recv(1)


def wrong_password(connection: socket.socket) -> None:
    """Speak as much of Kafka's protocol as a broker does before it refuses a login."""
    while True:
        size, key, version, correlation = struct.unpack(">ihhi", _exactly(connection, 12))
        _exactly(connection, size - 8)
        answer = {17: _handshake(), 18: _versions(version), 36: _refusal()}[key]
        body = struct.pack(">i", correlation) + answer
        connection.sendall(struct.pack(">i", len(body)) + body)


def _versions(version: int) -> bytes:
    if version > 2:  # too new: the client asks again, as it would an old broker
        return struct.pack(">hihhh", 35, 1, 18, 0, 2)
    apis = [(17, 0, 1), (18, 0, 2), (36, 0, 1), (3, 0, 8), (0, 0, 7), (1, 0, 11)]
    listed = b"".join(struct.pack(">hhh", *api) for api in apis)
    return struct.pack(">hi", 0, len(apis)) + listed + struct.pack(">i", 0) * (version > 0)


def _handshake() -> bytes:
    return struct.pack(">hih", 0, 1, 5) + b"PLAIN"


def _refusal() -> bytes:
    text = b"Authentication failed for me:hunter2hunter2"
    return struct.pack(">hh", 58, len(text)) + text + struct.pack(">iq", 0, 0)


def _exactly(connection: socket.socket, n_bytes: int) -> bytes:
    found = b""
    while len(found) < n_bytes and (piece := connection.recv(n_bytes - len(found))):
        found += piece
    return found


def told(brokers: str, caplog: pytest.LogCaptureFixture, **options: str | bool) -> str:
    """Let a source and a sink start for a moment; give what was logged."""
    cluster = Cluster(brokers=brokers, options=options)

    def stop(_: float) -> None:
        raise TimeoutError

    with caplog.at_level(logging.WARNING, "operators"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_module, "CALL_TIMEOUT_S", 2.0)
        patch.setattr("operators.outages._sleep_unless_stopped", stop)
        for neighbour in (KafkaSource(cluster, ["docs"]), KafkaSink(cluster, ["dead"])):
            with pytest.raises(TimeoutError):
                neighbour.list_parts()
    return "\n".join(caplog.messages)


LOGIN = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "me",
    "sasl.password": "hunter2hunter2",
}


def test_a_wrong_password_is_told_and_the_password_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(wrong_password) as brokers:
        said = told(brokers, caplog, **LOGIN)
    assert f"Kafka {brokers}: the brokers refuse the login; check sasl.mechanism" in said
    assert said.count("refuse the login") == 1
    assert "hunter2" not in said


def test_tls_to_a_plaintext_port_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving(no_tls) as brokers:
        said = told(brokers, caplog, **{"security.protocol": "SSL"})
    assert f"Kafka {brokers}: the port does not speak TLS" in said
    assert said.count("does not speak TLS") == 1


def silent(connection: socket.socket) -> None:
    while connection.recv(1_000):
        pass


def test_a_port_that_never_answers_tls_is_told(caplog: pytest.LogCaptureFixture) -> None:
    quick = {"socket.connection.setup.timeout.ms": "1000", "security.protocol": "SSL"}
    with serving(silent) as brokers:
        said = told(brokers, caplog, **quick)
    assert f"Kafka {brokers}: the port does not speak TLS" in said


def test_plaintext_to_a_tls_port_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving(tls) as brokers:
        said = told(brokers, caplog)
    assert f'Kafka {brokers}: the brokers hang up on what is not TLS; set "security.pro' in said


def test_a_certificate_that_is_not_trusted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving(tls) as brokers:
        said = told(brokers, caplog, **{"security.protocol": "SSL"})
    assert f"Kafka {brokers}: the brokers' certificate is not trusted" in said


def test_a_host_that_does_not_resolve_is_told(caplog: pytest.LogCaptureFixture) -> None:
    said = told("no-such-host.invalid:9092", caplog)
    assert "Kafka no-such-host.invalid:9092: no such host" in said


def test_a_port_at_which_nothing_listens_is_told(caplog: pytest.LogCaptureFixture) -> None:
    brokers = f"127.0.0.1:{free_port()}"
    said = told(brokers, caplog)
    assert f"Kafka {brokers}: nothing listens at that port" in said
    assert "Kafka topic docs: not there yet" in said


class _Error:
    """What librdkafka hands to a callback."""

    def __init__(self, code: int, text: str) -> None:
        self._code, self._text = code, text

    def code(self) -> int:
        return self._code

    def str(self) -> str:
        return self._text


def test_the_same_trouble_is_told_again_only_after_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    complaints = Complaints("a:1", SaidOnce(clock=lambda: now[0]))
    refused: KafkaError = _Error(KafkaError._TRANSPORT, "a:1/bootstrap: Connection refused")  # type: ignore[assignment]
    down: KafkaError = _Error(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING, "operators.kafka"):
        for _ in range(600):
            complaints(refused)
            complaints(down)
            complaints.log(20, "%s [%s] %s", "FAIL", "x", "Connection refused")
            now[0] += 0.25
    assert len(caplog.messages) == 3  # at 0, 60 and 120 seconds
    assert all("nothing listens at that port" in line for line in caplog.messages)


def test_a_wait_is_logged_once_and_then_each_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 0.01)

    monkeypatch.setattr("operators.outages.SaidOnce", lambda: SaidOnce(clock=lambda: now[0]))
    monkeypatch.setattr(type(STOP), "wait", lambda _, seconds: sleep(seconds))

    def ask() -> None:
        if now[0] < 200:
            msg = "refused at https://me:hunter2@example.org/x?sig=hunter2"
            raise ConnectionError(msg)

    with caplog.at_level(logging.WARNING, "operators.outages"):
        waited_out("Qdrant", ask, lambda error: isinstance(error, ConnectionError))
    assert 3 <= len(caplog.messages) <= 5
    assert all("hunter2" not in line for line in caplog.messages)


def test_a_consumer_that_reads_loses_no_message_to_the_hearing(brokers: str) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(3))
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "hearing", "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found: list[bytes | str | None] = []
    while len(found) < 3:
        hear(consumer)
        found += [one.value() for one in consumer.consume(1, timeout=1)]
    assert len(set(found)) == 3
    consumer.close()


@pytest.mark.parametrize(
    ("options", "told_as"),
    [
        ({"no.such": 1}, "No such configuration property"),
        ({"socket.timeout.ms": "soon"}, "socket.timeout.ms"),
        ({"security.protocol": "TLS"}, "security.protocol"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "must be set"),
        ({"ssl.ca.location": "/no/such/file", "security.protocol": "SSL"}, "ssl.ca.location"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, str], told_as: str) -> None:
    with pytest.raises(SettingError, match=f"Kafka option refused: .*{told_as}") as caught:
        Cluster(brokers="127.0.0.1:1", options=options).consumer({"group.id": "g"})
    assert len(str(caught.value).splitlines()) == 1


def test_options_may_be_numbers_and_booleans_and_secrets_are_not_shown() -> None:
    cluster = Cluster(
        brokers="127.0.0.1:1",
        options={
            "socket.timeout.ms": 1000,
            "enable.ssl.certificate.verification": False,
            "sasl.password": "hunter2hunter2",
            "client.id": "me",
        },
    )
    cluster.consumer({"group.id": "g"}).close()
    assert "hunter2" not in repr(cluster)
    assert "'client.id': 'me'" in repr(cluster)
