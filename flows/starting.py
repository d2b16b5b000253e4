"""How `python -m bytewax.run` starts a flow: with signals, logs, metrics, and right settings."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from bytewax.dataflow import Dataflow
from threadpoolctl import threadpool_limits

from fastembed_stream.errors import FastembedStreamError
from flows.settings import PREFIX, Process
from operators import drain_on_signals, metrics
from operators.progress import PROGRESS, FailureLimit
from operators.shutdown import STOP

__all__ = ["leave_cores_to_the_lanes", "started"]

Settings = TypeVar("Settings", bound=Process)

_GRACE_S = 5.0
"""What is being written when the time to drain is over."""


def started(settings: type[Settings], build: Callable[[Settings], Dataflow]) -> Dataflow:
    """
    Build a flow from the environment, ready to run.

    raises  SystemExit with one sentence where something of it is wrong
    """
    drain_on_signals()
    STOP.ends_process = True
    try:
        told = settings.from_environment()
        _set_up(told)
        flow = build(told)
    except FastembedStreamError as error:
        # Whoever reads the log at night needs the sentence, not our stack.
        msg = f"error: {error}"
        raise SystemExit(msg) from error
    _watch(told)
    return flow


def leave_cores_to_the_lanes() -> None:
    """
    Let numpy's products run on the thread that asks for them, in the whole process.

    Lanes and batches side by side fill the cores. Threads of numpy's own would wait for one
    another beside them: MUVERA then takes twice the work, and no less time.
    """
    threadpool_limits(limits=1, user_api="blas")


def _set_up(settings: Process) -> None:
    leave_cores_to_the_lanes()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request
    STOP.drain_s = settings.drain_s
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port, settings.metrics_host)


def _watch(settings: Process) -> None:
    """Tell once a minute and at the end how far the flow is; end it when too many records fail."""
    PROGRESS.start(FailureLimit(max_share=settings.max_failure_share), _end)
    atexit.register(_at_exit, PROGRESS.log_each_minute())


def _end() -> None:
    STOP.request()
    # The other processes of a cluster run on, and this one waits for them. When it has written
    # what it had, it ends and takes them along.
    waiting = threading.Timer(STOP.drain_s + _GRACE_S, _finish, [PROGRESS.log])
    waiting.daemon = True
    waiting.start()


def _at_exit(tell: Callable[[], None]) -> None:
    if not STOP.requested:  # the end of a file, not of a stream that someone has stopped early
        PROGRESS.judge_the_end()
    _finish(tell)


def _finish(tell: Callable[[], None]) -> None:
    tell()
    if PROGRESS.broken is None:
        return
    msg = f"error: {PROGRESS.broken}. {PREFIX}MAX_FAILURE_SHARE says how much may fail."
    print(msg, file=sys.stderr)  # noqa: T201  where SystemExit writes too
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)  # Bytewax has ended without an error, and so would Python
