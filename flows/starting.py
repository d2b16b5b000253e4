"""How `python -m bytewax.run` starts a flow: with signals, logs, metrics, and right settings."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink
from threadpoolctl import threadpool_limits

from fastembed_stream.errors import FastembedStreamError
from flows.clock import begin_anew_if_the_clock_is_set_back
from flows.leaving import leave
from flows.recovery import recovery_folder
from flows.settings import PREFIX, Process
from flows.telling import log_to_stderr, tell_errors_in_a_sentence
from operators import drain_on_signals, metrics
from operators.progress import PROGRESS, FailureLimit
from operators.shutdown import RESTART_CODE, STOP
from operators.under_way import UNDER_WAY

__all__ = ["leave_cores_to_the_lanes", "started"]

Settings = TypeVar("Settings", bound=Process)

_GRACE_S = 5.0
"""What is being written when the time to drain is over."""


def started(settings: type[Settings], build: Callable[[Settings], Dataflow]) -> Dataflow:
    """
    Build a flow from the environment, ready to run.

    Its neighbours are asked here for what they have, and waited for: Bytewax would ask them on
    its threads, and make a page of tracebacks of a topic that is misspelt.

    raises  SystemExit with one sentence where something of it is wrong
    """
    drain_on_signals()
    STOP.ends_process = True
    STOP.on_restart = partial(_leave_in_time, _restart_now)
    tell_errors_in_a_sentence()
    begin_anew_if_the_clock_is_set_back()
    atexit.register(_ask_for_a_restart)
    if (recovery := recovery_folder()) is not None and recovery.is_dir():
        UNDER_WAY.open(recovery)
    try:
        told = settings.from_environment()
        _set_up(told)
        flow = build(told)
        _ask_neighbours(flow)
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


def _ask_for_a_restart() -> None:
    """Say by the exit code that the flow wants to be started again: Bytewax would end with 0."""
    if not STOP.wants_restart or hasattr(sys, "last_type"):  # an error has its own exit code
        return
    leave(RESTART_CODE)


def _ask_neighbours(flow: Dataflow) -> None:
    for step in flow.substeps:
        neighbour = getattr(step, "source", None) or getattr(step, "sink", None)
        if isinstance(neighbour, FixedPartitionedSource | FixedPartitionedSink):
            neighbour.list_parts()


def _set_up(settings: Process) -> None:
    leave_cores_to_the_lanes()
    log_to_stderr(settings.log_level, "%(asctime)s %(levelname)s %(name)s: %(message)s")
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
    _leave_in_time(partial(_finish, PROGRESS.log))


def _leave_in_time(leave: Callable[[], None]) -> None:
    """
    End the process when its time to drain is over.

    The other processes of a cluster run on, and this one waits for them. When it has written what
    it had, it ends and takes them along.
    """

    def end() -> None:
        UNDER_WAY.close()  # no record has ended the process
        leave()

    waiting = threading.Timer(STOP.drain_s + _GRACE_S, end)
    waiting.daemon = True
    waiting.start()


def _restart_now() -> None:
    PROGRESS.log()
    _ask_for_a_restart()


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
    leave(1)
