"""
How the command line ends on Ctrl-C and SIGTERM: at once, with one line, and nothing left behind.

Nothing but the standard library's small modules is imported here: the imports that follow take a
second, and may be interrupted themselves. A thread ends the process rather than a handler, since
the main thread may be inside a call that does not come back for a while.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["at_the_end", "end_on_signals"]

_AT_MOST_S = 2.0
"""For what has to be put away."""

_LINES = {signal.SIGINT: "Stopped by Ctrl-C.", signal.SIGTERM: "Stopped by SIGTERM."}
_SHOW_CURSOR = "\x1b[?25h"

_left: list[Callable[[], object]] = []


def end_on_signals() -> None:
    """Let SIGINT end this process with 130 and SIGTERM with 143, from now on."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _LINES:
        signal.signal(number, _awake)
    threading.Thread(target=_end_when_told, args=(reader,), name="ending", daemon=True).start()


@contextmanager
def at_the_end(put_away: Callable[[], object]) -> Iterator[None]:
    """Call this when the block ends, and where a signal ends the process in it."""
    _left.append(put_away)
    try:
        yield
    finally:
        _left.remove(put_away)
        put_away()


def _awake(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python writes the signal's number to the pipe because it has a handler."""


def _end_when_told(reader: int) -> None:
    while True:
        for number in os.read(reader, 16):
            if number in _LINES:
                _end(signal.Signals(number))


def _end(number: signal.Signals) -> None:
    code = 128 + number
    in_time = threading.Timer(_AT_MOST_S, os._exit, (code,))
    in_time.daemon = True
    in_time.start()
    for put_away in reversed(_left):
        with suppress(Exception):
            put_away()
    with suppress(Exception):
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), f"{_SHOW_CURSOR}\n".encode())  # a bar hides it
        os.write(sys.stderr.fileno(), f"{_LINES[number]}\n".encode())
    os._exit(code)
