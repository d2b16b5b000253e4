"""
A clock that is set back must not stop a flow.

Bytewax compares the wall clock with when a source or a step is to wake and an epoch to end. Set
back by an hour, it reads nothing, wakes nobody and commits nothing for an hour, and no callback
can tell it better. So a thread watches the clock, and lets the process begin anew in its place:
that is a crash to the flow, which repeats what was not committed and loses nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from flows.leaving import leave
from operators.shutdown import STOP
from operators.under_way import UNDER_WAY

__all__ = ["ClockWatch", "begin_anew_if_the_clock_is_set_back"]

_LOG = logging.getLogger(__name__)

_EVERY_S = 0.2

_TOLERATED_S = 1.0
"""A clock that is set back by less makes one wait that much longer."""

_GRACE_S = 5.0
"""What is being written when the time to drain is over."""

_AT_ONCE_S = 0.01
"""Two clocks that are read farther apart are read again."""


@dataclass(slots=True)
class ClockWatch:
    """
    The distance of two clocks, of which one never goes back.

    wall    seconds since 1970, as the machine believes
    steady  seconds that only go forth
    """

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    _distance_s: float = 0.0

    def __post_init__(self) -> None:
        self._distance_s = self._distance()

    def set_back_s(self) -> float:
        """Give the seconds by which the wall clock was set back since the last call; 0 or more."""
        before, self._distance_s = self._distance_s, self._distance()
        return max(before - self._distance_s, 0.0)

    def _distance(self) -> float:
        while True:
            before = self.steady()
            wall = self.wall()
            if self.steady() - before < _AT_ONCE_S:
                return wall - before


def begin_anew_if_the_clock_is_set_back() -> None:
    """Watch the clock from now on, in a process that `python -m bytewax.run` has started."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name == "bytewax.run":  # a host program's process is its own
        clock = ClockWatch()
        threading.Thread(target=_watch, args=(clock,), name="clock", daemon=True).start()
        # Another process of this machine may have been quicker, and Bytewax ends this one with it.
        atexit.register(_look_at_the_end, clock)


def _watch(clock: ClockWatch) -> None:
    while True:
        _look(clock)
        time.sleep(_EVERY_S)


def _look(clock: ClockWatch) -> None:
    set_back_s = clock.set_back_s()
    if set_back_s > _TOLERATED_S:
        (_end_in_time if STOP.requested else _begin_anew)(set_back_s)


def _look_at_the_end(clock: ClockWatch) -> None:
    if not STOP.requested:  # it ends as it should
        _look(clock)


def _end_in_time(set_back_s: float) -> NoReturn:
    """End a process that should end and may stand still: when its time to drain is over."""
    _LOG.warning(
        "The clock was set back by %s s while the flow ends. Bytewax may stand still as long; what "
        "is not written when the time to drain is over is repeated on resume",
        f"{set_back_s:,.0f}",
    )
    time.sleep((STOP.left_s or 0.0) + _GRACE_S)
    UNDER_WAY.close()  # no record has ended the process
    leave(1)


def _begin_anew(set_back_s: float) -> NoReturn:
    _LOG.warning(
        "The clock was set back by %s s. Bytewax would stand still as long; the flow begins anew "
        "from its last commit",
        f"{set_back_s:,.0f}",
    )
    UNDER_WAY.close()  # no record has ended the process
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  this very program
