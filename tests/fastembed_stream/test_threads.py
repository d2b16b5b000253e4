"""Background threads run all calls, tell of every error, and end with their owner."""

from __future__ import annotations

import threading

import pytest

from fastembed_stream.threads import Threads
from tests.operators.things import wait_until

WITHIN_S = 5.0


def test_every_call_gives_its_result_or_its_error() -> None:
    def halved(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number // 2

    threads = Threads(3, "halves")
    futures = [threads.submit(halved, number) for number in range(20)]
    assert [future.result(WITHIN_S) for future in futures[::2]] == list(range(10))
    for future in futures[1::2]:
        with pytest.raises(ValueError, match=r"\d+"):
            future.result(WITHIN_S)


def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    all_there = threading.Barrier(3)
    threads = Threads(3, "meeting")
    futures = [threads.submit(all_there.wait, WITHIN_S) for _ in range(3)]
    assert sorted(future.result(WITHIN_S) for future in futures) == [0, 1, 2]


def test_a_call_that_was_cancelled_in_time_never_runs() -> None:
    go = threading.Event()
    ran: list[int] = []
    threads = Threads(1, "cancelled")
    first = threads.submit(go.wait, WITHIN_S)
    second, third = (threads.submit(ran.append, number) for number in (2, 3))
    assert second.cancel()
    go.set()
    assert first.result(WITHIN_S)
    third.result(WITHIN_S)
    assert ran == [3]


def test_closing_cancels_what_has_not_started_and_refuses_what_comes_after() -> None:
    go, started = threading.Event(), threading.Event()

    def first(_: int) -> bool:
        started.set()
        return go.wait(WITHIN_S)

    threads = Threads(1, "closing")
    running = threads.submit(first, 1)
    assert started.wait(WITHIN_S)
    waiting = [threads.submit(str, number) for number in range(3)]
    threads.close()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError, match="closing threads are closed"):
        threads.submit(str, 4)
    go.set()
    assert running.result(WITHIN_S) is True
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("closing-")]
    wait_until(lambda: not any(thread.is_alive() for thread in mine))


def test_the_threads_end_with_their_owner_and_never_hold_a_process() -> None:
    threads = Threads(2, "brief")
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("brief-")]
    assert [thread.daemon for thread in mine] == [True, True]
    del threads
    wait_until(lambda: not any(thread.is_alive() for thread in mine))
