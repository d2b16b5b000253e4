"""An outage is waited out with a log line; it is never a failure of a record."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from fastembed_stream.errors import FastembedStreamError
from fastembed_stream.redaction import redacted
from operators.shutdown import STOP

__all__ = [
    "MACHINE_ERRNOS",
    "NAME_SERVICE_ERRORS",
    "WAY_ERRNOS",
    "BrokenFlowError",
    "SaidOnce",
    "is_os_outage",
    "waited_out",
]

_LOG = logging.getLogger(__name__)

QUIET_S = 60.0
"""What goes on is said once, and then each minute."""

T = TypeVar("T")

MACHINE_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
    }
)
"""What this machine lacks: sockets, memory, room, a disk or a network that works."""

WAY_ERRNOS = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETRESET,
        errno.ENETUNREACH,
    }
)
"""
No way to a host: this machine's network is away. A router far off may say the same of one host.
"""

NAME_SERVICE_ERRORS = frozenset(
    {socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_MEMORY, socket.EAI_SYSTEM}
)
"""
What `getaddrinfo` says where name servers are silent, refuse or fail. That a name does not exist
(EAI_NONAME, EAI_NODATA) is an answer, and no outage.
"""


def is_os_outage(error: OSError) -> bool:
    """
    Tell an outage among the operating system's errors, whatever was asked of it.

    A connection that is refused or a file that is not there is the fault of whoever named it,
    where a stranger may name it; see `is_outage` in `stages.py` for neighbours of the flow.

    >>> is_os_outage(OSError(errno.ENETUNREACH, "no network"))
    True
    >>> is_os_outage(socket.gaierror(socket.EAI_NONAME, "no such host"))
    False
    """
    number = error.errno or 0
    if isinstance(error, socket.gaierror) or number < 0:
        # Numbers of another table, and on some systems the same as those of files.
        return number in NAME_SERVICE_ERRORS
    return number in MACHINE_ERRNOS | WAY_ERRNOS | {errno.ETIMEDOUT}


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
