"""A child process that does not outlive its parent, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from flows.ending import at_the_end

__all__ = ["running"]

_PR_SET_PDEATHSIG = 1

_WATCH = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.stdin.buffer.read()
os.kill(int(sys.argv[1]), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
"""
"""Its standard input closes with the parent."""


@contextmanager
def running(command: Sequence[str], *, by_kernel: bool | None = None) -> Iterator[None]:
    """
    Run a command until the block ends, or this process does.

    by_kernel  whether Linux itself kills the child; else a small process watches. None chooses
    """
    if by_kernel is None:
        # The kernel means the thread that has started it, and others may end before the process.
        main = threading.current_thread() is threading.main_thread()
        by_kernel = sys.platform == "linux" and main
    tied = partial(_tie, ctypes.CDLL(None).prctl, os.getpid()) if by_kernel else None
    child = subprocess.Popen(  # noqa: S603  the caller's command
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=tied,  # noqa: PLW1509  it calls the kernel and nothing else
    )
    with at_the_end(partial(_end, child)):
        if by_kernel:
            yield
            return
        watcher = subprocess.Popen(  # noqa: S603  our own interpreter and code
            [sys.executable, "-I", "-S", "-c", _WATCH, str(child.pid)], stdin=subprocess.PIPE
        )
        with at_the_end(partial(_end, watcher)):  # before the child, whose number others may get
            yield


def _tie(prctl: Callable[[int, int], int], parent: int) -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended in between
        os._exit(1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
