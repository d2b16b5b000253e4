"""No environment of the machine reaches a test, and no request to stop leaves one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flows.local_broker import running_broker
from flows.settings import PREFIX
from operators.shutdown import STOP


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    STOP.reset()
    yield
    STOP.reset()


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with running_broker() as address:
        yield address
