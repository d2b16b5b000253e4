"""An outage is waited out with a log line; it is never a failure of a record."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from fastembed_stream.errors import FastembedStreamError
from fastembed_stream.redaction import redacted
from operators.shutdown import STOP

__all__ = ["BrokenFlowError", "SaidOnce", "waited_out"]

_LOG = logging.getLogger(__name__)

QUIET_S = 60.0
"""What goes on is said once, and then each minute."""

T = TypeVar("T")


class BrokenFlowError(FastembedStreamError, RuntimeError):
    """What the flow cannot get past by itself. It ends; a restart resumes from its last commit."""


class SaidOnce:
    """Tells what may be said: something at once, and the same again only after a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at: dict[object, float] = {}

    def due(self, what: object) -> bool:
        """Tell whether it is time to say this; whoever asks says it."""
        now = self._clock()
        if now - self._said_at.get(what, -QUIET_S) < QUIET_S:
            return False
        self._said_at[what] = now
        return True


def waited_out(what: str, ask: Callable[[], T], is_transient: Callable[[BaseException], bool]) -> T:
    """
    Ask a neighbour until it answers, however long that takes; why not is logged each minute.

    A request to stop ends the wait. Before anything has run, and in a process that is ours, it
    ends the process with 0: nothing has been read yet, so nothing is lost.

    raises  what `ask` raises, if that is not transient; BrokenFlowError where a request to stop
            comes in a process of someone else, or once something has run
    """
    said = SaidOnce()
    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        before_sleep=lambda state: _log(what, state, said),
        sleep=_sleep_unless_stopped,
    )
    return retrying(ask)


def _log(what: str, state: RetryCallState, said: SaidOnce) -> None:
    error = state.outcome.exception() if state.outcome else None
    if said.due(type(error)):
        _LOG.warning("%s", redacted(f"{what}: not there yet ({error}); trying again"))


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
