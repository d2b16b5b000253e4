"""A clock that is set back is noticed; one that is set forth, or is read slowly, is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from flows.clock import ClockWatch


def clock(*times: float) -> Callable[[], float]:
    left = iter(times)
    return lambda: next(left)


def watched(distances: Iterable[float]) -> list[float]:
    """Move the wall clock so far away from the other, time after time."""
    wall = list(distances)
    watch = ClockWatch(wall=clock(*wall), steady=clock(*[0.0] * (2 * len(wall))))
    return [watch.set_back_s() for _ in wall[1:]]


def test_a_clock_that_is_set_back_is_told_once_and_by_how_much() -> None:
    assert watched([5_000, 1_400, 1_400]) == [3_600, 0]


def test_a_clock_that_is_set_forth_is_no_matter_and_back_again_is() -> None:
    assert watched([1_000, 4_600, 1_000]) == [0, 3_600]


@pytest.mark.parametrize("paused_s", [0.5, 300.0])
def test_a_thread_that_pauses_between_two_readings_reads_again(paused_s: float) -> None:
    steady = clock(0, 0, 1, 1 + paused_s, 2 + paused_s, 2 + paused_s)
    watch = ClockWatch(wall=clock(100, 101, 102 + paused_s), steady=steady)
    assert watch.set_back_s() == 0
