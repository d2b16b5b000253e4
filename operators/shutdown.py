"""
A clean stop: a signal makes the sources end, and all that is buffered is written and committed.

Bytewax itself dies at once on SIGTERM. Here the handler only raises a flag; sources that see it
end, so windows flush, sinks wait for their acknowledgements, the epoch commits, and the process
exits with 0. A resume then repeats nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["RESTART_CODE", "STOP", "Stop", "drain_on_signals"]

_LOG = logging.getLogger(__name__)

RESTART_CODE = getattr(os, "EX_TEMPFAIL", 75)
"""Exit code of a flow that has saved its state and wants to be started again."""


@dataclass(slots=True)
class Stop:
    """
    Whether this process has been asked to end, and how long it may still write.

    drain_s       seconds from the request until waits for a broken neighbour are given up
    ends_process  whether a request that comes before anything has run may end the process at
                  once; only for whoever owns the process
    started       whether anything has run: from then on only the flow itself ends the process
    wants_restart whether the flow ends by itself, to be started again
    on_restart    called once when it does
    """

    drain_s: float = 25.0
    ends_process: bool = False
    started: bool = False
    wants_restart: bool = False
    on_restart: Callable[[], None] = lambda: None
    _requested_at: float | None = None

    def request(self) -> None:
        """Ask all sources of this process to end."""
        if self._requested_at is None:
            self._requested_at = time.monotonic()

    def restart(self, why: str) -> None:
        """Ask all sources of this process to end, so that a supervisor starts the flow again."""
        if not self.requested:
            _LOG.error("%s. All that was read is written; exit code %d", why, RESTART_CODE)
            self.wants_restart = True
            self.request()
            self.on_restart()

    def reset(self) -> None:
        """Forget the request and what has run: for the next flow of the same process."""
        self._requested_at = None
        self.started = False
        self.wants_restart = False

    @property
    def requested(self) -> bool:
        """Tell whether sources should end."""
        return self._requested_at is not None

    @property
    def left_s(self) -> float | None:
        """Give the seconds that are left to drain; None while nobody asks to end."""
        if self._requested_at is None:
            return None
        return max(self._requested_at + self.drain_s - time.monotonic(), 0.0)

    @property
    def overdue(self) -> bool:
        """Tell whether the time to drain is over."""
        return self.left_s == 0.0

    def wait(self, seconds: float) -> None:
        """Sleep, but not past a request to end."""
        until = time.monotonic() + seconds
        while not self.requested and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def nap(self, seconds: float) -> None:
        """Sleep between tries; only for a moment once the flow should end, to keep its time."""
        self.wait(seconds)
        if self.requested:
            time.sleep(min(seconds, 0.5))


STOP = Stop()
"""This process' one flag: signals are a process' own, and so is every source in it."""


def drain_on_signals() -> None:
    """
    Let SIGTERM and SIGINT end the flow cleanly; call it where the flow is built.

    The same signal for the second time ends the process at once, as if nothing caught it.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # signals belong to the main thread; a host program handles its own
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_DFL)
    _LOG.warning("%s: sources end, buffers flush, then exit", signal.Signals(number).name)
    STOP.request()
