"""
Apache Kafka itself: one node, KRaft, its log on disk.

The jars come through Maven, once, into a cache folder of these tests.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from filelock import FileLock
from platformdirs import user_cache_path

from tests.operators.things import wait_until

__all__ = ["ApacheKafka", "MissingKafkaError", "kafka_jars", "running_kafka"]

VERSION = "4.4.0"
_JAVA = 17  # the least that brokers of Kafka 4 run on
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_POM = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>fastembed_stream_tests</groupId>
  <artifactId>apache_kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_JVM = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # ready sooner
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
# Quick where a default makes a restarted broker wait; auto.create.topics.enable stays true, as
# Kafka has it: a question about a topic must not make it.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
controller.quorum.election.timeout.ms=300
controller.quorum.fetch.timeout.ms=500
controller.quorum.election.backoff.max.ms=300
"""
_CLUSTER_ID = "ZmFzdGVtYmVkLXN0cmVhbQ"  # 16 bytes in base64, as Kafka wants it
_FETCHED_WITHIN_S = 200.0
_FORMATTED_WITHIN_S = 60.0
_READY_WITHIN_S = 60.0
_ANSWER_WITHIN_S = 10.0


class MissingKafkaError(RuntimeError):
    """Apache Kafka cannot be run here; the message says what is missing."""


@dataclass(kw_only=True)
class ApacheKafka:
    """
    One node, started and killed at will; what it has acknowledged outlives a kill.

    folder  its properties, its data and its log file
    """

    jars: Path
    folder: Path
    port: int
    controller_port: int
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        properties = _PROPERTIES.format(
            port=self.port, controller_port=self.controller_port, folder=self.folder
        )
        self._properties.write_text(properties)
        command = self._java("kafka.tools.StorageTool", "format", "--standalone")
        command += ["-t", _CLUSTER_ID, "-c", str(self._properties)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_FORMATTED_WITHIN_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # Kept, since the futures of an admin client die with it.
        self.admin = AdminClient(
            {
                "bootstrap.servers": self.address,
                "log_level": 0,
                "reconnect.backoff.max.ms": 200,
            }
        )

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return when it has registered."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it and return at once."""
        with (self.folder / "log").open("ab") as log:
            command = self._java("kafka.Kafka", str(self._properties))
            self._running.append(
                subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
            )

    def wait_until_ready(self) -> None:
        """Return when it has registered; a process that has ended fails here with its log."""

        def registered() -> bool:
            assert self._running[-1].poll() is None, self.log()[-4000:]
            with suppress(KafkaException):
                return len(self.admin.list_topics(timeout=1).brokers) == 1
            return False

        wait_until(registered, _READY_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL it, and return when it is gone."""
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def log(self) -> str:
        """Give its warnings and errors."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def create(
        self, partitions: int = 1, *, topic: str | None = None, config: Mapping[str, str] = {}
    ) -> str:
        """Create a topic, one that no other test has unless it is named, and give its name."""
        name = topic or f"t{uuid.uuid4().hex[:12]}"
        new = NewTopic(name, partitions, config=dict(config))
        self.admin.create_topics([new])[name].result(_ANSWER_WITHIN_S)
        return name

    def recreate(self, topic: str, partitions: int = 1) -> None:
        """Delete a topic with all that it has, and create it again."""
        self.admin.delete_topics([topic])[topic].result(_ANSWER_WITHIN_S)
        wait_until(lambda: topic not in self.topics())
        self.create(partitions, topic=topic)

    def topics(self) -> set[str]:
        """Name all topics."""
        return set(self.admin.list_topics(timeout=_ANSWER_WITHIN_S).topics)

    def expire(self, topic: str, before: int, partition: int = 0) -> None:
        """Delete what a partition has before an offset, as its retention would."""
        where = TopicPartition(topic, partition, before)
        self.admin.delete_records([where])[where].result(_ANSWER_WITHIN_S)

    def ends(self, topic: str) -> list[int]:
        """Give the offset behind the last message of each partition."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "asking"})
        try:
            numbers = sorted(consumer.list_topics(topic, _ANSWER_WITHIN_S).topics[topic].partitions)
            marks = [
                consumer.get_watermark_offsets(TopicPartition(topic, number), _ANSWER_WITHIN_S)
                for number in numbers
            ]
        finally:
            consumer.close()
        return [high for _, high in marks]

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, *words: str) -> list[str]:
        return ["java", *_JVM, "-cp", f"{self.jars}/*", *words]


@contextmanager
def running_kafka(jars: Path, folder: Path) -> Iterator[ApacheKafka]:
    """Run a node on 127.0.0.1 until the block ends."""
    port, controller_port = _quiet_ports(2)
    kafka = ApacheKafka(jars=jars, folder=folder, port=port, controller_port=controller_port)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.kill()


def kafka_jars() -> Path:
    """
    Give the folder of Kafka's jars, fetched if this machine does not have them yet.

    raises  MissingKafkaError where Java is absent or too old, or the jars cannot be had
    """
    _check_java()
    cache = user_cache_path("fastembed_stream_tests", ensure_exists=True)
    jars = cache / f"kafka-{VERSION}"
    with FileLock(cache / "kafka.lock"):
        if not jars.exists():
            _fetch(jars)
    return jars


def _check_java() -> None:
    java = shutil.which("java")
    if java is None:
        msg = f"No 'java' on the path: Apache Kafka {VERSION} needs Java {_JAVA} or later."
        raise MissingKafkaError(msg)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < _JAVA:
        msg = f"Apache Kafka {VERSION} needs Java {_JAVA} or later; got {told.strip()!r}."
        raise MissingKafkaError(msg)


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        msg = f"No 'mvn' on the path, and no jars of Apache Kafka {VERSION} in {jars}."
        raise MissingKafkaError(msg)
    # Whole or not at all: a fetch that is cut short leaves no folder of that name.
    with tempfile.TemporaryDirectory(dir=jars.parent) as folder:
        pom = Path(folder) / "pom.xml"
        pom.write_text(_POM)
        part = Path(folder) / "jars"
        command = [maven, "-q", "-B", "-f", str(pom), _COPY, "-DincludeScope=runtime"]
        command += [f"-DoutputDirectory={part}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_FETCHED_WITHIN_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            msg = f"Maven had not fetched Apache Kafka {VERSION} after {_FETCHED_WITHIN_S:.0f} s."
            raise MissingKafkaError(msg) from error
        if done.returncode != 0:
            told = (done.stdout + done.stderr).strip()[:500]
            msg = f"Maven cannot fetch Apache Kafka {VERSION}: {told}"
            raise MissingKafkaError(msg)
        part.rename(jars)


def _quiet_ports(n_ports: int) -> list[int]:
    """
    Find ports that nothing uses now, nor will while a killed broker is away.

    The kernel gives outgoing connections ports from 32768 on; one of those could be taken before
    the broker comes back, even by a client that tries to reach it.
    """
    found: list[int] = []
    while len(found) < n_ports:
        port = random.randrange(20_000, 32_000)  # noqa: S311  any will do
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in found:
                found.append(port)
    return found
