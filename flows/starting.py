"""How `python -m bytewax.run` starts a flow: with signals, logs, metrics, and right settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink
from threadpoolctl import threadpool_limits

from fastembed_stream.errors import FastembedStreamError
from flows.settings import Process
from flows.telling import log_to_stderr, tell_errors_in_a_sentence
from operators import drain_on_signals, metrics
from operators.shutdown import STOP

__all__ = ["leave_cores_to_the_lanes", "started"]

Settings = TypeVar("Settings", bound=Process)


def started(settings: type[Settings], build: Callable[[Settings], Dataflow]) -> Dataflow:
    """
    Build a flow from the environment, ready to run.

    Its neighbours are asked here for what they have, and waited for: Bytewax would ask them on
    its threads, and make a page of tracebacks of a topic that is misspelt.

    raises  SystemExit with one sentence where something of it is wrong
    """
    drain_on_signals()
    STOP.ends_process = True
    tell_errors_in_a_sentence()
    try:
        told = settings.from_environment()
        _set_up(told)
        flow = build(told)
        _ask_neighbours(flow)
    except FastembedStreamError as error:
        # Whoever reads the log at night needs the sentence, not our stack.
        msg = f"error: {error}"
        raise SystemExit(msg) from error
    return flow


def leave_cores_to_the_lanes() -> None:
    """
    Let numpy's products run on the thread that asks for them, in the whole process.

    Lanes and batches side by side fill the cores. Threads of numpy's own would wait for one
    another beside them: MUVERA then takes twice the work, and no less time.
    """
    threadpool_limits(limits=1, user_api="blas")


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
        metrics.serve(settings.metrics_port)
