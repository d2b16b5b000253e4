"""Lanes and budget are measured: the middle of what is about as fast as the best, soon."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from fastembed_stream.errors import DeviceError
from fastembed_stream.warm_up import CPU_BUDGETS, GPU_BUDGETS, Calibration, Layout, calibrate


class Machine:
    """A machine of known speeds, on a clock that only its own work moves."""

    def __init__(
        self, speeds: dict[int, float], *, seconds_for_one: float = 0.001, lanes: int = 1
    ) -> None:
        self.speeds = speeds
        self.unit_s = seconds_for_one
        self.now = 100.0
        self.tried: list[int] = []
        self.lanes = lanes

    def seconds_for(self, budget: int) -> float:
        seconds = self.unit_s * budget / self.speeds[budget]
        self.tried.append(budget)
        self.now += seconds
        return seconds

    @property
    def layout(self) -> Layout:
        return Layout(lanes=self.lanes, seconds_for=self.seconds_for)

    def clock(self) -> float:
        return self.now

    def best(self, budgets: tuple[int, ...] = CPU_BUDGETS) -> int:
        return calibrate(self.layout, budgets, clock=self.clock).budget


class TwoLayouts(Machine):
    """Four lanes that each do 100 tokens at any budget, and one lane of a given speed."""

    def __init__(self, one_lane: float, *, seconds_for_one: float = 0.001) -> None:
        super().__init__(
            dict.fromkeys(CPU_BUDGETS, 100.0), seconds_for_one=seconds_for_one, lanes=4
        )
        self.one_lane = one_lane
        self.fails: Exception | None = None
        self.tried_on_one: list[int] = []
        self.n_opened = 0

    def other(self) -> Layout:
        self.n_opened += 1
        return Layout(lanes=1, seconds_for=self.on_one)

    def on_one(self, budget: int) -> float:
        if self.fails is not None:
            raise self.fails
        self.tried_on_one.append(budget)
        seconds = self.unit_s * budget / self.one_lane
        self.now += seconds
        return seconds

    def chosen(self, budgets: Sequence[int] = CPU_BUDGETS) -> Calibration:
        return calibrate(self.layout, budgets, other=self.other, clock=self.clock)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({128: 80, 256: 90, 512: 98, 1024: 100, 2048: 99}, 1024),
        ({128: 80, 256: 90, 512: 96.9, 1024: 100, 2048: 96}, 1024),
        ({128: 90, 256: 98, 512: 99, 1024: 91, 2048: 90}, 362),
        ({128: 97, 256: 98, 512: 99, 1024: 100, 2048: 100}, 512),
        ({128: 10, 256: 20, 512: 30, 1024: 40, 2048: 50}, 2048),
    ],
)
def test_the_middle_of_the_budgets_within_three_percent_of_the_fastest_wins(
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


def test_a_size_that_would_run_past_the_limit_is_not_begun() -> None:
    machine = Machine(dict.fromkeys(CPU_BUDGETS, 100.0), seconds_for_one=0.05)
    started = machine.now
    machine.best()
    assert set(machine.tried) == {128, 256, 512}
    assert machine.now - started <= 1.5


def test_the_first_run_of_a_session_counts_for_nothing_since_it_allocates() -> None:
    machine = Machine({128: 100, 256: 60, 512: 60, 1024: 60, 2048: 60})
    ordinary = machine.seconds_for
    machine.seconds_for = lambda budget: (  # type: ignore[method-assign]
        50 * ordinary(budget) if not machine.tried else ordinary(budget)
    )
    assert machine.best() == 128


def test_a_size_that_is_over_at_once_is_tried_more_often() -> None:
    quick = Machine(dict.fromkeys(CPU_BUDGETS, 100.0), seconds_for_one=0.0001)
    quick.best()
    assert quick.tried.count(256) == 10
    steady = Machine(dict.fromkeys(CPU_BUDGETS, 100.0), seconds_for_one=0.002)
    steady.best()
    assert steady.tried.count(256) == 4


def test_each_size_is_tried_twice_and_the_better_try_counts() -> None:
    machine = Machine({128: 100, 256: 95, 512: 90, 1024: 90, 2048: 90}, seconds_for_one=0.01)
    ordinary = machine.seconds_for
    machine.seconds_for = lambda budget: (  # type: ignore[method-assign]
        ordinary(budget) * (3 if len(machine.tried) % 2 else 1)
    )
    assert machine.best() == 128
    assert machine.tried.count(256) == 2


def test_sizes_ascend_so_that_the_search_can_stop_early() -> None:
    assert list(CPU_BUDGETS) == sorted(CPU_BUDGETS)
    assert list(GPU_BUDGETS) == sorted(GPU_BUDGETS)


def out_of_memory_from(machine: Machine, smallest: int) -> None:
    ordinary = machine.seconds_for

    def seconds_for(budget: int) -> float:
        if budget >= smallest:
            msg = "out of memory"
            raise DeviceError(msg)
        return ordinary(budget)

    machine.seconds_for = seconds_for  # type: ignore[method-assign]


def test_a_size_that_does_not_fit_into_memory_ends_the_search() -> None:
    machine = Machine({128: 10, 256: 20, 512: 30, 1024: 40, 2048: 50})
    out_of_memory_from(machine, 1024)
    assert machine.best() == 512


def test_a_device_that_cannot_run_even_the_smallest_size_is_an_error() -> None:
    machine = Machine({128: 10})
    out_of_memory_from(machine, 128)
    with pytest.raises(DeviceError, match="out of memory"):
        machine.best()


@pytest.mark.parametrize(("speed", "lanes"), [(390, 4), (400, 4), (412, 4), (420, 1)])
def test_one_lane_on_all_threads_has_to_be_clearly_faster_to_win(speed: float, lanes: int) -> None:
    machine = TwoLayouts(one_lane=speed)
    assert machine.chosen().layout.lanes == lanes


def test_layouts_are_compared_at_a_middle_budget_and_budgets_on_the_winner_alone() -> None:
    slow, fast = TwoLayouts(one_lane=100), TwoLayouts(one_lane=1000)
    slow.chosen()
    fast.chosen()
    assert set(slow.tried_on_one) == {512}
    assert set(slow.tried) == set(CPU_BUDGETS)
    assert set(fast.tried_on_one) == set(CPU_BUDGETS)
    assert set(fast.tried) == {128, 512}


def test_a_given_budget_alone_compares_the_layouts_and_stays() -> None:
    machine = TwoLayouts(one_lane=1000)
    machine.speeds[300] = 100
    found = machine.chosen([300])
    assert (found.budget, found.layout.lanes) == (300, 1)
    assert set(machine.tried) == set(machine.tried_on_one) == {300}


def test_a_slow_model_opens_no_second_layout() -> None:
    machine = TwoLayouts(one_lane=1000, seconds_for_one=0.1)
    assert machine.chosen().layout.lanes == 4
    assert machine.n_opened == 0


def test_a_second_layout_that_fails_leaves_the_first() -> None:
    machine = TwoLayouts(one_lane=1000)
    machine.fails = DeviceError("out of memory")
    assert machine.chosen().layout.lanes == 4


def test_the_result_is_one_line_with_budget_and_lanes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastembed_stream"):
        TwoLayouts(one_lane=200).chosen()
    [line] = caplog.messages
    assert "token budget 512 (128: 100%, 256: 100%" in line
    assert line.endswith("lanes 4 (4: 100%, 1: 50%)")
