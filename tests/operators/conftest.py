"""Every operator passes under each of Bytewax' ways to run: threads differ, and so do bugs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bytewax.recovery import RecoveryConfig

from operators.shutdown import STOP
from tests.operators.things import EntryPoint, on_workers, store


@pytest.fixture(params=[0, 1, 2], ids=["run_main", "cluster_main-1", "cluster_main-2"])
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
