"""Rows run in groups on lanes, and the answers come back in the order of the rows."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
from typing_extensions import override

from fastembed_stream import onnx_embedder
from fastembed_stream.errors import SettingError
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.session import Session
from fastembed_stream.tokens import Reading
from fastembed_stream.values import Feeds, Ints, Outputs
from fastembed_stream.warm_up import CPU_BUDGETS, Calibration, Layout
from tests.operators.things import wait_until


class Squares:
    """A family whose rows are numbers and whose answers are their squares; it notes its groups."""

    outputs = ("square",)

    def __init__(self, *, width: int = 1, fails_at: int | None = None) -> None:
        self.width = width
        self.fails_at = fails_at
        self.groups: list[list[int]] = []

    def read(self, rows: Sequence[int]) -> Reading:
        ids = tuple(np.full(self.width, row) for row in rows)
        return Reading(ids=ids, lengths=np.full(len(rows), self.width), truncated_tokens=1)

    def widths(self, reading: Reading) -> Ints:
        return reading.lengths

    def sample(self, n_tokens: int) -> Reading:
        return self.read([1] * max(n_tokens // self.width, 1))

    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        numbers = np.array([reading.ids[row][0] for row in rows])
        self.groups.append(numbers.tolist())
        if self.fails_at in numbers:
            msg = f"no square for {self.fails_at}"
            raise ArithmeticError(msg)
        return {"number": numbers}

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[int]:
        del feeds
        return [int(square) for square in outputs[0]]


class Device:
    """A session that squares; with a gate, no number from `held_from` on passes before it opens."""

    def __init__(
        self,
        *,
        lanes: int = 1,
        gate: threading.Event | None = None,
        held_from: int = 0,
        other: Callable[[], Device] | None = None,
    ) -> None:
        self.device = "cpu"
        self.lanes = lanes
        self.other = other
        self.gate = gate
        self.held_from = held_from
        self.n_runs = 0

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
        assert list(outputs) == ["square"]
        if self.gate is not None and feeds["number"].max() >= self.held_from:
            assert self.gate.wait(10)
        self.n_runs += 1
        return cast("Outputs", [feeds["number"] ** 2])


def embedder(family: Squares, *devices: Device, budget: int | None = 1) -> OnnxEmbedder[int, int]:
    sessions = cast("Sequence[Session]", devices or (Device(),))
    return OnnxEmbedder(family, sessions, budget=budget)


def test_answers_come_in_the_order_of_the_rows() -> None:
    assert embedder(Squares(), budget=3)([3, 1, 2, 5, 4]) == [9, 1, 4, 25, 16]


def test_no_rows_have_no_answers_and_run_nothing() -> None:
    family = Squares()
    assert embedder(family)([]) == []
    assert family.groups == []


def test_a_stream_gives_answers_in_order_whatever_the_window() -> None:
    for window in (1, 2, 7, 100):
        squares = embedder(Squares(), budget=3).stream(iter(range(10)), window=window)
        assert list(squares) == [n * n for n in range(10)]


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_below_one_is_refused(window: int) -> None:
    with pytest.raises(SettingError, match=f"at least 1 row; got {window}"):
        next(embedder(Squares()).stream([1], window=window))


def test_a_stream_over_an_endless_source_answers_and_reads_at_most_two_windows_ahead() -> None:
    n_read = 0

    def endless() -> Iterator[int]:
        nonlocal n_read
        while True:
            n_read += 1
            yield n_read

    squares = embedder(Squares()).stream(endless(), window=4)
    assert n_read == 0
    for number in range(1, 21):
        assert next(squares) == number**2
        assert n_read <= number + 2 * 4


def test_a_stream_that_is_closed_early_runs_nothing_more() -> None:
    gate = threading.Event()
    device = Device(gate=gate, held_from=8)
    squares = embedder(Squares(), device)
    stream = squares.stream(itertools.count(), window=8)
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]  # a generator
    gate.set()
    # The one lane works in order: what was not dropped would run before this row. Of the second
    # window's eight rows, one may have started.
    assert squares([7]) == [49]
    assert device.n_runs <= 8 + 1 + 1


def test_closing_ends_the_threads() -> None:
    before = set(threading.enumerate())
    squares = embedder(Squares(), Device(lanes=3))
    squares(list(range(9)))
    lanes = set(threading.enumerate()) - before
    squares.close()
    assert lanes
    for lane in lanes:
        lane.join(timeout=5)
    assert not any(lane.is_alive() for lane in lanes)


def test_an_error_of_a_group_reaches_the_caller_and_the_rest_is_not_run() -> None:
    gate = threading.Event()
    family = Squares(fails_at=0)
    squares = embedder(family, Device(gate=gate))
    with pytest.raises(ArithmeticError, match="no square for 0"):
        squares(list(range(100)))
    gate.set()
    assert squares([2]) == [4]
    assert len(family.groups) < 10


@pytest.mark.parametrize(("window", "answered"), [(1, 5), (2, 4), (5, 5), (6, 0)])
def test_a_source_that_fails_fails_the_stream_after_the_answers_of_the_windows_before(
    window: int, answered: int
) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        msg = "the source is gone"
        raise ConnectionError(msg)

    squares: list[int] = []
    with pytest.raises(ConnectionError, match="the source is gone"):
        squares.extend(embedder(Squares()).stream(source(), window=window))
    assert squares == [n * n for n in range(answered)]


def test_a_call_after_closing_is_an_error_and_not_a_wait_for_ever() -> None:
    squares = embedder(Squares())
    squares.close()
    with pytest.raises(RuntimeError, match="closed"):
        squares([1])
    with pytest.raises(RuntimeError, match="closed"):
        next(squares.stream([1], window=1))


def test_a_closed_embedder_measures_nothing_and_says_so() -> None:
    squares = embedder(Squares(), budget=None)
    squares.close()
    for call in (squares.warm_up, lambda: squares([1] * 20_000)):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_what_is_closed_while_it_is_measured_stays_closed() -> None:
    squares = embedder(Squares())
    squares.close()
    squares._lanes.use(cast("tuple[Session, ...]", (Device(lanes=2),)))
    assert squares.place == "closed"
    with pytest.raises(RuntimeError, match="closed"):
        squares([1])


def test_closing_cancels_the_groups_that_have_not_started() -> None:
    gate = threading.Event()
    family = Squares()
    squares = embedder(family, Device(gate=gate))
    with ThreadPoolExecutor(1) as caller:
        answers = caller.submit(squares, list(range(50)))
        waiting = squares._lanes._threads._pool._waiting
        wait_until(lambda: sum(map(len, waiting.values())) == 49 and bool(family.groups))
        squares.close()
        gate.set()
        with pytest.raises(CancelledError, match="was closed while this call was under way"):
            answers.result(10)
    assert len(family.groups) == 1


def test_groups_run_on_as_many_lanes_as_there_are_at_once() -> None:
    together = threading.Barrier(3, timeout=10)

    class Meeting(Device):
        @override
        def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
            together.wait()
            return super().run(outputs, feeds)

    assert embedder(Squares(), Meeting(lanes=3))([1, 2, 3]) == [1, 4, 9]


def test_work_is_spread_over_all_sessions() -> None:
    together = threading.Barrier(2, timeout=10)

    class Meeting(Device):
        @override
        def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
            together.wait()
            return super().run(outputs, feeds)

    first, second = Meeting(), Meeting()
    assert embedder(Squares(), first, second)([1, 2, 3, 4]) == [1, 4, 9, 16]
    assert first.n_runs == second.n_runs == 2


def test_no_more_calls_run_on_a_session_than_it_has_lanes() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    class Watched(Device):
        @override
        def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            answer = super().run(outputs, feeds)
            with lock:
                running -= 1
            return answer

    squares = embedder(Squares(), Watched(lanes=2))
    with ThreadPoolExecutor(4) as callers:
        list(callers.map(squares, [list(range(20))] * 4))
    assert most <= 2


def test_callers_on_several_threads_each_get_their_own_answers_and_all_rows_are_counted() -> None:
    squares = embedder(Squares(), Device(lanes=2), budget=3)
    several = [list(range(n, n + 25)) for n in range(0, 200, 10)]
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(squares, several))
    assert answers == [[n * n for n in rows] for rows in several]
    counts = squares.counts
    assert (counts.rows, counts.tokens, counts.truncated_tokens) == (500, 500, 20)


def test_another_family_shares_lanes_and_budget_and_counts_for_itself() -> None:
    squares = embedder(Squares(), budget=5)
    other = squares.with_family(Squares(width=2))
    assert other([3]) == [9]
    assert (squares.counts.rows, other.counts.rows) == (0, 1)
    assert other.sessions is squares.sessions
    assert other.warm_up() == 5


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note each measuring of the budget instead of taking the time."""
    calls: list[Any] = []

    def calibrate(first: Layout, budgets: Any, **_: Any) -> Calibration:
        first.seconds_for(budgets[0])
        calls.append(budgets)
        return Calibration(layout=first, budget=6)

    monkeypatch.setattr(onnx_embedder, "calibrate", calibrate)
    return calls


def test_a_budget_that_is_given_is_never_measured(measured: list[Any]) -> None:
    squares = embedder(Squares(width=50), budget=100)
    squares(list(range(1000)))
    assert squares.warm_up() == 100
    assert measured == []


def test_the_budget_is_measured_once_and_only_when_there_is_enough_to_do(
    measured: list[Any],
) -> None:
    family = Squares(width=2)
    squares = embedder(family, budget=None)
    squares(list(range(8000)))
    assert measured == []
    squares(list(range(8192)))
    assert len(measured) == 1
    family.groups.clear()
    squares(list(range(9000)))
    assert len(measured) == 1
    assert {len(group) for group in family.groups} == {3}
    assert squares.warm_up() == 6


def test_threads_that_need_the_budget_at_once_measure_it_once(measured: list[Any]) -> None:
    squares = embedder(Squares(), budget=None)
    with ThreadPoolExecutor(4) as callers:
        assert set(callers.map(lambda _: squares.warm_up(), range(4))) == {6}
    assert len(measured) == 1


def test_a_gpu_is_measured_at_larger_sizes(measured: list[Any]) -> None:
    device = Device()
    device.device = "cuda"
    embedder(Squares(), device, budget=None).warm_up()
    assert min(measured[0]) >= 2048


def test_the_budget_counts_what_a_row_costs_not_what_it_says() -> None:
    class Wide(Squares):
        @override
        def widths(self, reading: Reading) -> Ints:
            return np.full(reading.n_rows, 10)

    family = Wide()
    assert embedder(family, budget=30)(list(range(6))) == [0, 1, 4, 9, 16, 25]
    assert sorted(map(len, family.groups)) == [3, 3]


def settle_on_the_other(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let each calibration open the other layout, and choose it; note the budgets of each."""
    calls: list[Any] = []

    def calibrate(first: Layout, budgets: Any, *, other: Any) -> Calibration:
        assert first.lanes == 3
        calls.append(budgets)
        layout = other()
        layout.seconds_for(budgets[0])
        return Calibration(layout=layout, budget=budgets[0])

    monkeypatch.setattr(onnx_embedder, "calibrate", calibrate)
    return calls


def test_a_layout_that_wins_takes_the_place_of_the_first_and_shows_its_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = settle_on_the_other(monkeypatch)
    one_lane = Device(lanes=1)
    three_lanes = Device(lanes=3, other=lambda: one_lane)
    squares = embedder(Squares(), three_lanes, budget=None)
    tripled = squares.with_family(Squares(width=3))
    assert squares.lanes == 3
    assert squares.warm_up() == tripled.warm_up() == CPU_BUDGETS[0]
    assert calls == [CPU_BUDGETS]
    assert squares.lanes == tripled.lanes == 1
    assert cast("object", squares.sessions) == cast("object", tripled.sessions) == (one_lane,)
    n_before = one_lane.n_runs
    assert squares(list(range(9))) == [n * n for n in range(9)]
    assert tripled([3]) == [9]
    assert (three_lanes.n_runs, one_lane.n_runs) == (0, n_before + 2)


def test_a_given_budget_is_kept_and_serves_to_compare_the_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = settle_on_the_other(monkeypatch)
    squares = embedder(Squares(), Device(lanes=3, other=Device), budget=7)
    assert squares.lanes == 3
    assert squares.warm_up() == squares.warm_up() == 7
    assert calls == [(7,)]
    assert squares.lanes == 1


def test_several_devices_are_lanes_enough_and_compare_no_layouts(measured: list[Any]) -> None:
    squares = embedder(Squares(), Device(lanes=2, other=Device), Device(lanes=2), budget=5)
    assert squares.warm_up() == 5
    assert measured == []
    assert squares.lanes == 4
