"""A broker with the topic, for each test its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows.local_broker import create_topic, running_broker
from tests.chaos.deployment import N_PARTITIONS, TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def brokers() -> Iterator[str]:
    with running_broker() as address:
        create_topic(address, TOPIC, N_PARTITIONS)
        yield address
