"""A window closes by count, by tokens or by the age of its oldest record, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSource, TimeTestingGetter
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import Batch, Record, WindowLimits, window
from operators.clocks import steady
from operators.window import WindowLogic, estimated_tokens
from tests.operators.things import (
    NO_TIME,
    Crash,
    EntryPoint,
    Kept,
    Lists,
    batch,
    failure,
    numbers,
    on_workers,
    record,
)

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
LONG = 3600.0


def sizes(batches: list[Batch]) -> list[int]:
    return [len(batch.records) for batch in batches]


def weigh(record: Record) -> int:
    return int(str(record.fields["text"]))


def logic(
    clock: Callable[[], datetime] = lambda: START,
    *,
    resumed: tuple[Record, ...] = (),
    weigh: Callable[[Record], int] = lambda _: 1,
    **limits: float,
) -> WindowLogic:
    whole = {"max_records": 100, "max_tokens": 1000, "max_age_s": 1.0, **limits}
    return WindowLogic(WindowLimits(**whole), weigh, resumed, clock)  # type: ignore[arg-type]  # counts are whole


def test_a_window_closes_when_it_has_its_number_of_records() -> None:
    gather = logic(max_records=2)
    closed, discard = gather.on_batch([batch(0), batch(1, 2, 3, 4)])
    assert [numbers([one]) for one in closed] == [[0, 1], [2, 3]]
    assert not discard
    assert numbers(gather.on_eof()[0]) == [4]


def test_a_window_closes_before_it_has_too_many_tokens() -> None:
    gather = logic(weigh=weigh, max_tokens=10)
    heavy = [record(n, text) for n, text in enumerate(["4", "6", "1", "9", "2"])]
    closed, _ = gather.on_batch([Batch(records=tuple(heavy))])
    assert [numbers([one]) for one in closed] == [[0, 1], [2, 3]]


def test_a_record_heavier_than_a_window_stands_alone() -> None:
    gather = logic(weigh=weigh, max_tokens=10)
    heavy = [record(n, text) for n, text in enumerate(["1", "99", "1"])]
    closed, _ = gather.on_batch([Batch(records=tuple(heavy))])
    assert [numbers([one]) for one in closed + gather.on_eof()[0]] == [[0], [1], [2]]


def test_the_age_is_that_of_the_oldest_and_no_younger_record_restarts_it() -> None:
    clock = TimeTestingGetter(START)
    gather = logic(clock.get, max_age_s=1.0)
    gather.on_batch([batch(0)])
    for number in range(1, 4):
        clock.advance(timedelta(seconds=0.3))
        assert gather.on_batch([batch(number)]) == ([], False)
        assert gather.notify_at() == START + timedelta(seconds=1)
    clock.advance(timedelta(seconds=0.1))
    closed, discard = gather.on_notify()
    assert numbers(closed) == [0, 1, 2, 3]
    assert discard
    assert gather.notify_at() is None


def test_the_age_starts_anew_with_the_next_window() -> None:
    clock = TimeTestingGetter(START)
    gather = logic(clock.get, max_records=2)
    gather.on_batch([batch(0)])
    clock.advance(timedelta(seconds=0.9))
    gather.on_batch([batch(1, 2)])
    assert gather.notify_at() == START + timedelta(seconds=1.9)


def test_a_stale_notification_closes_nothing() -> None:
    clock = TimeTestingGetter(START)
    gather = logic(clock.get, max_records=2)
    gather.on_batch([batch(0, 1)])
    assert gather.on_notify() == ([], True)
    gather.on_batch([batch(2)])
    clock.advance(timedelta(seconds=0.5))
    assert gather.on_notify() == ([], False)
    assert gather.snapshot() == (record(2),)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_window_grows_old_by_a_clock_that_nobody_sets(hours: int) -> None:
    clock, wall = TimeTestingGetter(START), TimeTestingGetter(START)
    gather = WindowLogic(WindowLimits(max_age_s=1.0), clock=clock.get, wall=wall.get)
    gather.on_batch([batch(0)])
    wall.advance(timedelta(hours=hours))
    clock.advance(timedelta(seconds=0.4))
    assert gather.on_notify() == ([], False), "it is as old as before"
    assert gather.notify_at() == START + timedelta(hours=hours, seconds=0.6)
    clock.advance(timedelta(seconds=0.6))
    assert numbers(gather.on_notify()[0]) == [0]


def test_the_clock_of_windows_only_goes_forth(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([10.0, 13.5])
    monkeypatch.setattr("operators.clocks.time.monotonic", lambda: next(seconds))
    monkeypatch.setattr("operators.clocks.wall", lambda: START)
    before = steady()
    assert steady() - before == timedelta(seconds=3.5)


def test_the_end_flushes_once_however_often_it_comes() -> None:
    gather = logic()
    gather.on_batch([batch(0, 1)])
    closed, _ = gather.on_eof()
    assert numbers(closed) == [0, 1]
    assert gather.on_eof() == ([], True)
    gather.on_batch([batch(2)])
    assert numbers(gather.on_eof()[0]) == [2]


def test_a_snapshot_does_not_change_with_the_window() -> None:
    gather = logic()
    gather.on_batch([batch(0)])
    kept = gather.snapshot()
    gather.on_batch([batch(1)])
    gather.on_eof()
    assert kept == (record(0),)


def test_records_that_waited_in_the_last_run_leave_at_once() -> None:
    gather = logic(resumed=(record(0), record(1)))
    assert gather.notify_at() == START
    assert numbers(gather.on_notify()[0]) == [0, 1]


def test_records_that_waited_in_the_last_run_leave_before_new_ones() -> None:
    gather = logic(resumed=(record(0), record(1)), max_records=3)
    assert numbers(gather.on_batch([batch(2, 3)])[0]) == [0, 1, 2]


def test_failures_pass_through() -> None:
    gather = logic()
    closed, _ = gather.on_batch([Batch(records=(record(0),), failures=(failure(1), failure(2)))])
    assert closed == [Batch(records=(), failures=(failure(1), failure(2)))]
    assert numbers(gather.on_eof()[0]) == [0]


def test_tokens_are_guessed_by_the_length_of_the_text() -> None:
    assert estimated_tokens(record(0, "x" * 400)) == 102
    assert estimated_tokens(replace(record(0), fields={})) == 2


@pytest.mark.parametrize("name", ["max_records", "max_tokens", "max_age_s"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name}=0"):
        WindowLimits(**{name: 0})


EVENTS = st.lists(st.lists(st.integers(1, 12), max_size=5) | st.floats(0, 2), max_size=12)


@given(EVENTS, st.integers(1, 5), st.integers(1, 20))
def test_every_record_leaves_once_in_order_within_the_limits(
    events: list[list[int] | float], max_records: int, max_tokens: int
) -> None:
    clock = TimeTestingGetter(START)
    gather = logic(clock.get, weigh=weigh, max_records=max_records, max_tokens=max_tokens)
    given_, left, count = [], [], 0
    for event in events:
        if isinstance(event, float):
            clock.advance(timedelta(seconds=event))
            closed, discard = gather.on_notify()
        else:
            records = tuple(record(count + n, str(weight)) for n, weight in enumerate(event))
            count += len(records)
            given_ += list(records)
            closed, discard = gather.on_batch([Batch(records=records)])
        left += closed
        assert discard == (not gather.snapshot())
        assert numbers(left) + [r.origin.offset for r in gather.snapshot()] == numbers(
            [Batch(records=tuple(given_))]
        )
    left += gather.on_eof()[0]
    assert numbers(left) == list(range(count))
    for one in left:
        assert 1 <= len(one.records) <= max_records
        assert len(one.records) == 1 or sum(map(weigh, one.records)) <= max_tokens


def windowed(
    source: TestingSource[tuple[str, Batch]] | Lists[tuple[str, Batch]],
    limits: WindowLimits,
    seen: list[int] | None = None,
) -> tuple[Dataflow, Kept[Batch]]:
    def see(item: tuple[str, Batch]) -> tuple[str, Batch]:
        if seen is not None:
            seen.extend(numbers([item[1]]))
        return item

    kept: Kept[Batch] = Kept()
    flow = Dataflow("windows")
    batches = op.map("see", op.input("in", flow, source), see)
    op.output("out", window("window", batches, limits=limits), kept)
    return flow, kept


def test_a_flow_gathers_single_records_into_windows(entry_point: EntryPoint) -> None:
    items: list[tuple[str, Batch] | Crash] = [("k", batch(number)) for number in range(7)]
    flow, kept = windowed(Lists({"all": items}), WindowLimits(max_records=3, max_age_s=LONG))
    entry_point(flow)
    assert sizes(kept.items) == [3, 3, 1]
    assert numbers(kept.items) == list(range(7))


def test_a_window_closes_by_age_while_its_source_is_silent(entry_point: EntryPoint) -> None:
    flow, kept = windowed(
        Lists({"all": [("k", batch(0)), Crash(lambda: kept.items)]}), WindowLimits(max_age_s=0.05)
    )
    with pytest.raises(RuntimeError):
        entry_point(flow)
    assert numbers(kept.items) == [0]


def test_an_aborted_window_repeats_and_loses_nothing(recovery_config: RecoveryConfig) -> None:
    items: list[Any] = [("k", batch(0)), ("k", batch(1)), TestingSource.ABORT(), ("k", batch(2))]
    limits = WindowLimits(max_records=10, max_age_s=LONG)
    flow, first = windowed(TestingSource(items), limits)
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    flow, second = windowed(TestingSource(items), limits)
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert first.items == []
    assert set(numbers(second.items)) == {0, 1, 2}


def test_records_that_wait_survive_crashes_and_other_numbers_of_workers(
    recovery_config: RecoveryConfig,
) -> None:
    items: dict[str, list[tuple[str, Batch] | Crash]] = {
        "a": [("k0", batch(0)), ("k0", batch(1)), Crash(), ("k0", batch(2)), Crash()],
        "b": [("k1", batch(10)), ("k1", batch(11))],
    }
    left: list[int] = []
    seen: list[list[int]] = []
    for n_workers in (1, 2, 1):
        seen.append([])
        flow, kept = windowed(Lists(items), WindowLimits(max_age_s=LONG), seen[-1])
        try:
            on_workers(n_workers)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
        except RuntimeError:
            assert n_workers == 2 or len(seen) == 1
        left += numbers(kept.items)
    assert set(left) == {0, 1, 2, 10, 11}
    assert 0 in seen[0]
    assert 0 not in seen[1] + seen[2], "the source has gone on: the window itself has kept it"
