"""The budget is measured: the smallest that is about as fast as the fastest, in little time."""

from __future__ import annotations

import pytest

from fastembed_stream.warm_up import CPU_BUDGETS, GPU_BUDGETS, best_budget


class Machine:
    """A machine of known speeds, on a clock that only its own work moves."""

    def __init__(self, speeds: dict[int, float], *, seconds_for_one: float = 0.001) -> None:
        self.speeds = speeds
        self.unit_s = seconds_for_one
        self.now = 100.0
        self.tried: list[int] = []

    def seconds_for(self, budget: int) -> float:
        seconds = self.unit_s * budget / self.speeds[budget]
        self.tried.append(budget)
        self.now += seconds
        return seconds

    def clock(self) -> float:
        return self.now

    def best(self, budgets: tuple[int, ...] = CPU_BUDGETS) -> int:
        return best_budget(self.seconds_for, budgets, clock=self.clock)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({128: 80, 256: 90, 512: 98, 1024: 100, 2048: 99}, 512),
        ({128: 80, 256: 90, 512: 96.9, 1024: 100, 2048: 99}, 1024),
        ({128: 97, 256: 98, 512: 99, 1024: 100, 2048: 100}, 128),
        ({128: 10, 256: 20, 512: 30, 1024: 40, 2048: 50}, 2048),
    ],
)
def test_the_smallest_budget_within_three_percent_of_the_fastest_wins(
    speeds: dict[int, float], expected: int
) -> None:
    assert Machine(speeds).best() == expected


def test_sizes_past_a_clear_fall_are_not_tried() -> None:
    machine = Machine({128: 90, 256: 100, 512: 89, 1024: 500, 2048: 500})
    assert machine.best() == 256
    assert set(machine.tried) == {128, 256, 512}


def test_a_small_fall_does_not_end_the_search() -> None:
    machine = Machine({128: 90, 256: 100, 512: 92, 1024: 120, 2048: 100})
    assert machine.best() == 1024


def test_a_slow_model_is_measured_at_few_sizes() -> None:
    machine = Machine({128: 10, 256: 20, 512: 30, 1024: 40, 2048: 50}, seconds_for_one=0.05)
    started = machine.now
    assert machine.best() == 128
    assert set(machine.tried) == {128}
    assert machine.now - started < 3


def test_the_first_run_of_a_session_counts_for_nothing_since_it_allocates() -> None:
    machine = Machine({128: 100, 256: 60, 512: 60, 1024: 60, 2048: 60})
    ordinary = machine.seconds_for
    machine.seconds_for = lambda budget: (  # type: ignore[method-assign]
        50 * ordinary(budget) if not machine.tried else ordinary(budget)
    )
    assert machine.best() == 128


def test_each_size_is_tried_twice_and_the_better_try_counts() -> None:
    machine = Machine({128: 100, 256: 95, 512: 90, 1024: 90, 2048: 90})
    ordinary = machine.seconds_for
    machine.seconds_for = lambda budget: (  # type: ignore[method-assign]
        ordinary(budget) * (3 if len(machine.tried) % 2 else 1)
    )
    assert machine.best() == 128
    assert machine.tried.count(256) == 2


def test_sizes_ascend_so_that_the_search_can_stop_early() -> None:
    assert list(CPU_BUDGETS) == sorted(CPU_BUDGETS)
    assert list(GPU_BUDGETS) == sorted(GPU_BUDGETS)
