"""A flow that is started has its process to itself."""

from __future__ import annotations

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
