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
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

__all__ = ["Threads"]

A = TypeVar("A")
T = TypeVar("T")
Tasks: TypeAlias = "SimpleQueue[Callable[[], None] | None]"


class Threads:
    """
    Some daemon threads and the calls that wait for them, first in, first out.

    close  lets the threads end once the calls so far are done
    """

    def __init__(self, n_threads: int, name: str) -> None:
        self._tasks: Tasks = SimpleQueue()
        for number in range(n_threads):
            threading.Thread(
                target=_work, args=(self._tasks,), name=f"{name}-{number}", daemon=True
            ).start()
        # They end with their owner: a host program may build one flow after another.
        self.close = weakref.finalize(self, _end, self._tasks, n_threads)

    def submit(self, call: Callable[[A], T], argument: A) -> Future[T]:
        """Run a call in the background; its result or its error is the future's."""
        future: Future[T] = Future()
        self._tasks.put(partial(_settle, future, call, argument))
        return future


def _work(tasks: Tasks) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # or the last batch would stay in memory until the next comes


def _settle(future: Future[T], call: Callable[[A], T], argument: A) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call(argument)
    except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
        future.set_exception(error)
    else:
        future.set_result(result)


def _end(tasks: Tasks, n_threads: int) -> None:
    for _ in range(n_threads):
        tasks.put(None)
