"""How `python -m bytewax.run` starts a flow: with signals, logs, metrics, and right settings."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bytewax.dataflow import Dataflow
from threadpoolctl import threadpool_limits

from fastembed_stream.errors import FastembedStreamError
from flows.clock import begin_anew_if_the_clock_is_set_back
from flows.settings import Process
from operators import drain_on_signals, metrics
from operators.shutdown import STOP
from operators.under_way import UNDER_WAY

__all__ = ["leave_cores_to_the_lanes", "started"]

Settings = TypeVar("Settings", bound=Process)


def started(settings: type[Settings], build: Callable[[Settings], Dataflow]) -> Dataflow:
    """
    Build a flow from the environment, ready to run.

    raises  SystemExit with one sentence where something of it is wrong
    """
    drain_on_signals()
    STOP.ends_process = True
    begin_anew_if_the_clock_is_set_back()
    if (recovery := recovery_folder()) is not None:
        UNDER_WAY.open(recovery)
    try:
        told = settings.from_environment()
        _set_up(told)
        return build(told)
    except FastembedStreamError as error:
        # Whoever reads the log at night needs the sentence, not our stack.
        msg = f"error: {error}"
        raise SystemExit(msg) from error


def recovery_folder() -> Path | None:
    """Tell where the recovery store is, as Bytewax' own command line was told."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=True, exit_on_error=False)
    parser.add_argument("-r", "--recovery-directory", type=Path)
    try:
        told: Path | None = parser.parse_known_args(sys.argv[1:])[0].recovery_directory
    except argparse.ArgumentError:
        return None
    told = told or Path(os.environ.get("BYTEWAX_RECOVERY_DIRECTORY", ""))
    return told if told != Path() and told.is_dir() else None


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
        metrics.serve(settings.metrics_port)
