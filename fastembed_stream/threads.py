"""
Background threads that share their work fairly, and that a program can end and fork around.

The standard library's executor joins its threads at exit, so one hung call, or one that waits out
an outage, would hold a flow that has failed, and whoever restarts it would never hear of it. A
daemon thread that is left inside a C++ library while the interpreter goes away aborts the process.
So at exit these threads are stopped, and waited for, but not for ever; so are others that are in
such a library. After a fork the child has none of its parent's threads: it starts its own, and
calls that were under way fail there at once.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from typing_extensions import Self, override

__all__ = ["ForkSafeLock", "Threads", "before_exit", "native_call", "worker_number"]

A = TypeVar("A")
T = TypeVar("T")
_Call: TypeAlias = "tuple[Future[Any], Callable[[], object]]"
"""Where the result of a call goes, and the call."""

_EXIT_WAIT_S = 1.0
"""
How long the end of a program waits for a call that runs, unless told otherwise. A call over the
network may take longer, and may be left alone: it holds nothing that could abort the process.
"""

_NATIVE_WAIT_S = 10.0
"""How long the end of a program waits for calls into libraries on threads that are not ours."""


class ForkSafeLock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """Be free: the thread that held the lock does not exist here."""
        self._lock = threading.Lock()


class _Worker(threading.Thread):
    """A thread of a pool, and its number there."""

    def __init__(self, pool: _Pool, number: int) -> None:
        # A daemon, so that none can hold the process for ever.
        super().__init__(target=_work, args=(pool,), name=f"{pool.name}-{number}", daemon=True)
        self.number = number


class _Pool:
    """
    Calls that wait, and the threads that run them.

    exit_wait_s  how long the end of a program waits for a call that runs
    """

    def __init__(self, n_threads: int, name: str, exit_wait_s: float) -> None:
        self.n_threads = n_threads
        self.name = name
        self.exit_wait_s = exit_wait_s
        self.threads: list[_Worker] = []
        self._is_closed = False
        self._is_exiting = False
        self._renew()
        _POOLS.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._tickets: SimpleQueue[bool] = SimpleQueue()
        """One for each call that waits; False ends a thread."""
        self._waiting: OrderedDict[object, deque[_Call]] = OrderedDict()
        """Calls by whose turn they belong to; the first is next."""
        self._unsettled: set[Future[Any]] = set()

    def start(self) -> None:
        """Start the threads."""
        self.threads = [_Worker(self, number) for number in range(self.n_threads)]
        for thread in self.threads:
            thread.start()

    def put(self, turn: object, future: Future[Any], run: Callable[[], object]) -> None:
        """Let a call wait for its turn."""
        with self._lock:
            is_open = not (self._is_closed or _EXITING.is_set())
            if is_open:
                if not self.threads:  # in a forked child
                    self.start()
                self._unsettled.add(future)
                self._waiting.setdefault(turn, deque()).append((future, run))
        if not is_open:
            _end_with_the_program()
            msg = f"The {self.name} threads are closed: they take no more calls."
            raise RuntimeError(msg)
        self._tickets.put(True)  # noqa: FBT003  a ticket says whether there is a call

    def next(self) -> _Call | None:
        """Wait, and take the next call of whose turn it is; None where the thread is to end."""
        while self._tickets.get():
            with self._lock:
                if not self._waiting:
                    continue  # its call was dropped
                turn, calls = self._waiting.popitem(last=False)
                call = calls.popleft()
                if calls:
                    self._waiting[turn] = calls
                return call
        return None

    def settle(self, future: Future[Any], run: Callable[[], object]) -> None:
        """Run a call, and hand its result or its error to who waits for it."""
        if not future.set_running_or_notify_cancel():
            self._unsettled.discard(future)
            return
        try:
            result = run()
        except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
            done = partial(future.set_exception, error)
        else:
            done = partial(future.set_result, result)
        self._unsettled.discard(future)
        if not self._is_exiting or _is_nested(future):
            done()

    def close(self) -> None:
        """Cancel the calls that have not started, refuse new ones, and let the threads end."""
        for future in self._drop():
            future.cancel()

    def finish(self) -> None:
        """Refuse new calls, and let the threads end once those that wait have run."""
        with self._lock:
            self._is_closed = True
        self._end_threads()

    def exit(self) -> None:
        """
        Drop the calls that have not started, and let the threads end.

        Who waits for one waits on: nobody needs its answer now, and an error would be printed.
        Threads of pools are woken, since they are waited for themselves.
        """
        self._is_exiting = True
        for future in self._drop():
            if _is_nested(future):
                future.cancel()

    def _drop(self) -> list[Future[Any]]:
        with self._lock:
            self._is_closed = True
            dropped = [future for calls in self._waiting.values() for future, _ in calls]
            self._waiting.clear()
            self._unsettled.difference_update(dropped)
        self._end_threads()
        return dropped

    def _end_threads(self) -> None:
        for _ in self.threads:
            self._tickets.put(False)  # noqa: FBT003  as above

    def after_fork(self) -> None:
        """Be as new, without threads, and fail the calls that the parent has under way."""
        lost = list(self._unsettled)
        self._renew()
        self.threads = []
        for future in lost:
            # Some thread of the parent may have held its lock.
            Future.__init__(future)
            future.set_exception(
                RuntimeError(
                    "This call was under way when the process forked, and goes on in the parent "
                    "alone. Start it again here."
                )
            )


class Threads:
    """
    Some daemon threads, and the calls that wait for them.

    close  cancels the calls that have not started, refuses new ones, and lets the threads end
    """

    def __init__(self, n_threads: int, name: str, *, exit_wait_s: float = _EXIT_WAIT_S) -> None:
        self._pool = _Pool(n_threads, name, exit_wait_s)
        self._pool.start()
        # They end with their owner: a host program may build one flow after another.
        self.close = weakref.finalize(self, self._pool.close)
        self.close.atexit = False  # `_exit` does it, in its own way

    def finish(self) -> None:
        """Refuse new calls, and let the threads end once those that wait have run."""
        self.close.detach()
        self._pool.finish()

    def submit(self, call: Callable[[A], T], argument: A, *, turn: object = None) -> Future[T]:
        """
        Run a call in the background; its result or its error is the future's.

        turn    calls of one turn run first in, first out; between turns one of each in turn
        raises  RuntimeError after `close`, since nobody would ever run it
        """
        future: Future[T] = _NestedFuture() if _is_in_a_pool() else _OuterFuture()
        self._pool.put(turn, future, partial(call, argument))
        return future


class _NestedFuture(Future[T]):
    """A call that a thread of a pool waits for, and no thread of the program."""


class _OuterFuture(Future[T]):
    """A call that a thread of the program waits for: at its end, not in vain."""

    @override
    def result(self, timeout: float | None = None) -> T:
        if not self.done():
            _end_with_the_program()
        return super().result(timeout)


@contextlib.contextmanager
def native_call() -> Iterator[None]:
    """
    Mark a call into a library that lets other threads run meanwhile, on any thread.

    A daemon thread of the program that comes back from one after the interpreter has gone aborts
    the process. So the end of the program waits for it, and holds back those that come later.
    """
    inside = threading.Lock()
    with inside:
        _NATIVE.add(inside)  # before it looks for the end, which looks for it
        try:
            if not _is_held():
                yield
                return
        finally:
            _NATIVE.discard(inside)
    _end_with_the_program()


def before_exit(stop: Callable[[], None]) -> None:
    """Call this when the program ends, to make the calls that run end soon."""
    _STOPS.append(stop)


def worker_number() -> int:
    """Tell which of its pool's threads runs this call, from 0."""
    worker = threading.current_thread()
    assert isinstance(worker, _Worker)  # noqa: S101  only calls of a pool ask
    return worker.number


def _end_with_the_program() -> None:
    """
    Do nothing while the program runs, nor on a pool's thread, which is stopped in its own way.

    A daemon thread of the program is held: nobody waits for what it does, and its errors would be
    printed. Who else comes is an exit handler, which has to hear that there is no answer.
    """
    if _is_held():
        threading.Event().wait()
    if _EXITING.is_set() and not _is_in_a_pool():
        msg = (
            "The program is ending, and models run no more. An exit handler that needs one has to "
            "be registered after fastembed_stream is imported: the last one is called first."
        )
        raise RuntimeError(msg)


def _is_held() -> bool:
    return _EXITING.is_set() and threading.current_thread().daemon and not _is_in_a_pool()


def _is_in_a_pool() -> bool:
    return isinstance(threading.current_thread(), _Worker)


def _is_nested(future: Future[Any]) -> bool:
    return isinstance(future, _NestedFuture)


def _work(pool: _Pool) -> None:
    while (call := pool.next()) is not None:
        pool.settle(*call)
        del call  # or the last batch would stay in memory until the next comes


def _exit() -> None:
    """Stop all pools, and wait for what runs: each as long as it may take."""
    started = time.monotonic()
    _EXITING.set()
    pools = list(_POOLS)
    for pool in pools:
        pool.exit()
    for stop in _STOPS:
        stop()
    with contextlib.suppress(KeyboardInterrupt):  # who asks twice does not want to wait
        for pool in pools:
            for thread in pool.threads:
                thread.join(max(started + pool.exit_wait_s - time.monotonic(), 0))
        for inside in list(_NATIVE):
            inside.acquire(timeout=max(started + _NATIVE_WAIT_S - time.monotonic(), 0))


def _after_fork() -> None:
    _NATIVE.clear()
    for lock in list(_LOCKS):
        lock.after_fork()
    for pool in list(_POOLS):
        pool.after_fork()


_LOCKS: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_POOLS: weakref.WeakSet[_Pool] = weakref.WeakSet()
_STOPS: list[Callable[[], None]] = []
_EXITING = threading.Event()
_NATIVE: set[threading.Lock] = set()
"""A lock for each call that is inside `native_call`; it is free once the call is out."""

atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
