"""An outage is waited out with a log line; it is never a failure of a record."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from fastembed_stream.errors import FastembedStreamError
from operators.shutdown import STOP

__all__ = ["BrokenFlowError", "waited_out"]

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class BrokenFlowError(FastembedStreamError, RuntimeError):
    """What the flow cannot get past by itself. It ends; a restart resumes from its last commit."""


def waited_out(what: str, ask: Callable[[], T], is_transient: Callable[[BaseException], bool]) -> T:
    """
    Ask a neighbour until it answers, however long that takes.

    A request to stop ends the wait. Before anything has run, and in a process that is ours, it
    ends the process with 0: nothing has been read yet, so nothing is lost.

    raises  what `ask` raises, if that is not transient; BrokenFlowError where a request to stop
            comes in a process of someone else, or once something has run
    """
    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        before_sleep=lambda state: _log(what, state),
        sleep=_sleep_unless_stopped,
    )
    return retrying(ask)


def _log(what: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _LOG.warning("%s: not there yet (%s); trying again", what, error)


def _sleep_unless_stopped(seconds: float) -> None:
    STOP.wait(seconds)
    if not STOP.requested:
        return
    if STOP.ends_process and not STOP.started:
        logging.shutdown()
        # Bytewax has no way to end while it builds: an exception would read as a failure.
        os._exit(0)
    when = "while it waited for a neighbour" if STOP.started else "before it started"
    msg = f"The flow was stopped {when}. A restart resumes from its last commit."
    raise BrokenFlowError(msg)
