"""No environment of the machine reaches a page, and no request to stop leaves one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
