"""A flow that is started has its process to itself."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from flows.settings import Process
from flows.starting import _set_up


def test_numpy_takes_no_cores_from_the_lanes() -> None:
    with threadpool_limits(limits=2, user_api="blas"):  # puts back what was there before
        np.ones((2, 2)) @ np.ones((2, 2))
        _set_up(Process())
        threads = [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]
    assert threads
    assert set(threads) == {1}
