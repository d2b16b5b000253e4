"""
One graph on one device, as ONNX Runtime runs it: run, stopped at the program's end, after a fork.

On CPU a graph runs on *lanes*: concurrent `session.run` calls, each on few threads. Small groups
on many lanes keep their tensors in cache, which beats one large group on all cores.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, cast

from fastembed_stream.errors import DeviceError
from fastembed_stream.graphs import input_types
from fastembed_stream.threads import ForkSafeLock, before_exit, native_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import onnxruntime

    from fastembed_stream.values import Feeds, Outputs

__all__ = ["Session", "outages_told"]

# Whole phrases: messages carry source paths and names of nodes, which may say 'cuda' or 'alloc'.
_DEVICE_SIGNS = (
    "cuda failure",
    "cublas_status",
    "cudnn_status",
    "failed to allocate memory",
    "bad_alloc",
    "out of memory",
)

_LOCK = ForkSafeLock()
_LIVE: weakref.WeakSet[Session] = weakref.WeakSet()
_STOPPED = Event()

_M_TRIM_THRESHOLD = -1
"""glibc's name for it, see mallopt(3)."""


class Session:
    """
    One graph on one device, safe to run from several threads.

    device   'cpu', 'cuda' or the name of another active provider
    lanes    calls that may run at the same time
    inputs   names of the graph's inputs, in its order
    outputs  names of the graph's outputs, in its order
    other    opens the same graph in another layout, one lane on all threads, for warm-up to
             compare; None where the lanes were given or there is nothing to compare
    reopen   opens the same graph once more, for a forked child where this one cannot serve
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        *,
        device: str,
        lanes: int,
        other: Callable[[], Session] | None = None,
        reopen: Callable[[], Session] | None = None,
    ) -> None:
        self._held = [session]
        self.device = device
        self.lanes = lanes
        self.other = other
        self._reopen = reopen
        self._is_lost = False
        self._running: set[onnxruntime.RunOptions] = set()
        self.inputs = dict.fromkeys(node.name for node in session.get_inputs()).keys()
        self.outputs = tuple(node.name for node in session.get_outputs())
        self._types = input_types(session)
        # Unlike `__del__`, this comes when nobody can get at the session any more: who finds it
        # among the open ones meanwhile would hold one that is gone.
        weakref.finalize(self, _free, self._held).atexit = False
        _LIVE.add(self)

    @property
    def bound(self) -> onnxruntime.InferenceSession:
        """
        The session as ONNX Runtime has it, usable in this process.

        raises  DeviceError in a forked child where the device does not survive a fork
        """
        if self._is_lost:
            with _LOCK:
                if self._is_lost:
                    self._held[0] = self._opened_again()
                    self._is_lost = False
        return self._held[0]

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
        """
        Run the graph.

        outputs  names to compute; the rest of the graph is skipped
        feeds    arrays by input name; what the graph does not take is left out
        raises   DeviceError where the device failed, and ONNX Runtime's own error for bad input
        """
        with outages_told(self.device), self.running() as options:
            return cast("Outputs", self.bound.run(list(outputs), self.taken(feeds), options))

    @contextmanager
    def running(self) -> Iterator[onnxruntime.RunOptions]:
        """Give the options of one run, by which the end of the program stops it."""
        import onnxruntime as ort

        options = ort.RunOptions()
        self._running.add(options)
        options.terminate = _STOPPED.is_set()  # after that, or the end could miss it
        try:
            with native_call():
                yield options
        finally:
            self._running.discard(options)

    def stop(self) -> None:
        """Let the runs end at their next node, with an error."""
        for options in list(self._running):
            options.terminate = True

    def taken(self, feeds: Feeds) -> Feeds:
        """Leave out what the graph does not take, and give the rest the types that it takes."""
        return {
            name: array.astype(self._types.get(name, array.dtype), copy=False)
            for name, array in feeds.items()
            if name in self.inputs
        }

    def after_fork(self) -> None:
        """
        Be ready to serve in a child that was forked with this session open.

        It goes on where no other thread had a hand in it. Else it is lost, and never touched again,
        not even to be freed: it has threads that do not exist, and would wait for them.
        """
        self._is_lost = self.device != "cpu" or bool(self._running) or self._has_threads()
        self._running = set()
        if self._is_lost:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._held[0]))

    def _opened_again(self) -> onnxruntime.InferenceSession:
        if self.device != "cpu" or self._reopen is None:
            msg = (
                f"This model was opened on {self.device!r} before the process forked, and does not "
                "survive that. Open it in the child (lazy_load=True waits for its first use), or "
                "start children by 'spawn'."
            )
            raise DeviceError(msg)
        return self._reopen().bound

    def _has_threads(self) -> bool:
        options = self._held[0].get_session_options()
        return (options.intra_op_num_threads, options.inter_op_num_threads) != (1, 1)


@contextmanager
def outages_told(device: str) -> Iterator[None]:
    """Tell what a device does wrong from what the input does."""
    try:
        yield
    except MemoryError as error:
        msg = f"Out of memory while running on {device}: {error}"
        raise DeviceError(msg) from error
    except Exception as error:
        text = str(error).lower()
        if any(sign in text for sign in _DEVICE_SIGNS):
            msg = f"The device {device!r} failed: {error}"
            raise DeviceError(msg) from error
        raise


def _free(held: list[onnxruntime.InferenceSession]) -> None:
    """Free a session that nobody holds, and let the system have its memory."""
    if _STOPPED.is_set():
        return
    with _memory_given_back():
        held.clear()


def _stop_all() -> None:
    _STOPPED.set()
    for session in list(_LIVE):
        session.stop()


@contextmanager
def _memory_given_back() -> Iterator[None]:
    """
    Give the system back what is freed meanwhile: glibc would keep it for whoever comes next.

    It keeps up to 64 MiB at the top of each arena, and each lane may have an arena; from the first
    session that is freed on, it keeps 1 MiB.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_M_TRIM_THRESHOLD, 1 << 20)
    yield
    libc.malloc_trim(0)


def _after_fork() -> None:
    for session in list(_LIVE):
        session.after_fork()
    if sys.platform == "linux" and "onnxruntime" in sys.modules:
        # At the very end of a process ONNX Runtime waits for a thread of its own, which a child
        # does not have (seen in 1.31). By then Python has done all that it does at its end.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc["_exit"], None)


before_exit(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
