"""
Background threads that cannot keep a failed process alive.

The standard library's executor joins its threads at exit, so one hung call, or one that waits out
an outage, would hold a flow that has failed, and whoever restarts it would never hear of it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

__all__ = ["Threads"]

A = TypeVar("A")
T = TypeVar("T")
Task: TypeAlias = tuple[Callable[[], object], Callable[[], None]]
"""How to cancel a call, and how to run it."""


@dataclass(slots=True, eq=False)
class _Tasks:
    """The calls that wait; the lock is between who hands one in and who closes."""

    queue: SimpleQueue[Task | None] = field(default_factory=SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: bool = False


class Threads:
    """
    Some daemon threads and the calls that wait for them, first in, first out.

    close  cancels the calls that have not started, refuses new ones, and lets the threads end
    """

    def __init__(self, n_threads: int, name: str) -> None:
        self._name = name
        self._tasks = _Tasks()
        for number in range(n_threads):
            threading.Thread(
                target=_work, args=(self._tasks.queue,), name=f"{name}-{number}", daemon=True
            ).start()
        # They end with their owner: a host program may build one flow after another.
        self.close = weakref.finalize(self, _end, self._tasks, n_threads)
        # At exit nobody waits for an answer any more, and a cancelled call would be one.
        self.close.atexit = False

    def submit(self, call: Callable[[A], T], argument: A) -> Future[T]:
        """
        Run a call in the background; its result or its error is the future's.

        raises  RuntimeError after `close`, since nobody would ever run it
        """
        future: Future[T] = Future()
        with self._tasks.lock:
            if self._tasks.closed:
                msg = f"The {self._name} threads are closed: they take no more calls."
                raise RuntimeError(msg)
            self._tasks.queue.put((future.cancel, partial(_settle, future, call, argument)))
        return future


def _work(queue: SimpleQueue[Task | None]) -> None:
    while (task := queue.get()) is not None:
        _, run = task
        run()
        del task, run  # or the last batch would stay in memory until the next comes


def _settle(future: Future[T], call: Callable[[A], T], argument: A) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call(argument)
    except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
        future.set_exception(error)
    else:
        future.set_result(result)


def _end(tasks: _Tasks, n_threads: int) -> None:
    with tasks.lock:
        tasks.closed = True
    try:
        while (task := tasks.queue.get_nowait()) is not None:
            cancel, _ = task
            cancel()
    except Empty:
        pass
    for _ in range(n_threads):
        tasks.queue.put(None)
