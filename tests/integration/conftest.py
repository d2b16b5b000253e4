"""One node of Apache Kafka for all tests of a file, each with topics of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bytewax.recovery import RecoveryConfig

from operators import STOP
from tests.integration.apache_kafka import (
    ApacheKafka,
    MissingKafkaError,
    kafka_jars,
    running_kafka,
)
from tests.operators.things import EntryPoint, on_workers, store


@pytest.fixture(scope="session")
def jars() -> Path:
    try:
        return kafka_jars()
    except MissingKafkaError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def kafka(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    with running_kafka(jars, tmp_path_factory.mktemp("kafka")) as node:
        yield node


@pytest.fixture(params=[0, 2], ids=["run_main", "cluster_main-2"])
def entry_point(request: pytest.FixtureRequest) -> EntryPoint:
    return on_workers(request.param)


@pytest.fixture
def recovery_config(tmp_path: Path) -> RecoveryConfig:
    return store(tmp_path / "recovery")


@pytest.fixture(autouse=True)
def _going(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No request to stop comes from another test, nor goes to one."""
    monkeypatch.setattr(STOP, "drain_s", STOP.drain_s)
    STOP.reset()
    yield
    STOP.reset()
