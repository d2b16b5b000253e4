"""A flow that is started has its process to itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from flows.settings import Process
from flows.starting import _set_up
from operators import metrics


def test_metrics_are_served_where_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[int, str]] = []
    monkeypatch.setattr(metrics, "serve", lambda port, host: served.append((port, host)))
    _set_up(Process())
    _set_up(Process(metrics_port=9_100))
    _set_up(Process(metrics_port=9_100, metrics_host="::"))
    assert served == [(9_100, "127.0.0.1"), (9_100, "::")]


def test_numpy_takes_no_cores_from_the_lanes() -> None:
    with threadpool_limits(limits=2, user_api="blas"):  # puts back what was there before
        np.ones((2, 2)) @ np.ones((2, 2))
        _set_up(Process())
        threads = [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]
    assert threads
    assert set(threads) == {1}


_STARTED = """
from bytewax.dataflow import Dataflow
from flows.settings import Process
from flows.starting import started
from operators import STOP

started(Process, lambda _: Dataflow("any"))
print("written", end="")
"""


_HASTE = """from flows import starting; from threading import Event
starting._GRACE_S = STOP.drain_s = 0.1; """


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("", 0),
        ("STOP.request()", 0),
        ("STOP.restart('why')", 75),
        ("STOP.request(); STOP.restart('why')", 0),
        ("STOP.restart('why'); raise RuntimeError", 1),
        (f"{_HASTE}STOP.restart('why'); Event().wait()", 75),  # as for another process
    ],
)
def test_a_flow_that_wants_to_be_started_again_says_so_by_its_exit_code(
    then: str, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STARTED + then],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == "written"
