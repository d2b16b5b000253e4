"""How `python -m bytewax.run` starts a flow: with signals, logs, metrics, and right settings."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from bytewax.dataflow import Dataflow
from threadpoolctl import threadpool_limits

from fastembed_stream.errors import FastembedStreamError
from flows.settings import Process
from operators import drain_on_signals, metrics
from operators.shutdown import RESTART_CODE, STOP

__all__ = ["leave_cores_to_the_lanes", "started"]

Settings = TypeVar("Settings", bound=Process)


def started(settings: type[Settings], build: Callable[[Settings], Dataflow]) -> Dataflow:
    """
    Build a flow from the environment, ready to run.

    raises  SystemExit with one sentence where something of it is wrong
    """
    drain_on_signals()
    STOP.ends_process = True
    atexit.register(_ask_for_a_restart)
    try:
        told = settings.from_environment()
        _set_up(told)
        return build(told)
    except FastembedStreamError as error:
        # Whoever reads the log at night needs the sentence, not our stack.
        msg = f"error: {error}"
        raise SystemExit(msg) from error


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
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(RESTART_CODE)


def _set_up(settings: Process) -> None:
    leave_cores_to_the_lanes()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request
    STOP.drain_s = settings.drain_s
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port)
