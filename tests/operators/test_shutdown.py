"""A request to stop is heard once, by all, and gives so many seconds to write what is buffered."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from operators.shutdown import STOP, Stop, drain_on_signals


@pytest.fixture
def _handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_nothing_is_requested_at_first_and_nothing_is_overdue() -> None:
    stop = Stop()
    assert not stop.requested
    assert not stop.overdue


def test_a_request_is_overdue_when_the_time_to_drain_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("operators.shutdown.time", SimpleNamespace(monotonic=lambda: now))
    stop = Stop(drain_s=5)
    stop.request()
    assert stop.requested
    assert not stop.overdue
    now = 105.1
    assert stop.overdue


def test_a_second_request_gives_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("operators.shutdown.time", SimpleNamespace(monotonic=lambda: now))
    stop = Stop(drain_s=5)
    stop.request()
    now = 104.0
    stop.request()
    now = 106.0
    assert stop.overdue
    stop.reset()
    assert not stop.requested


def test_a_wish_to_be_restarted_is_a_request_with_a_reason_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop = Stop()
    stop.restart("docs has more partitions")
    stop.restart("again")
    assert stop.requested
    assert stop.wants_restart
    [line] = caplog.messages
    assert line == "docs has more partitions. All that was read is written; exit code 75"
    stop.reset()
    assert not stop.wants_restart


def test_a_wish_to_be_restarted_after_a_request_to_stop_changes_nothing() -> None:
    stop = Stop()
    stop.request()
    stop.restart("too late")
    assert not stop.wants_restart


def test_the_seconds_left_to_drain_are_counted_from_the_request_and_never_below_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([100.0, 103.0, 110.0])
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr("operators.shutdown.time", clock)
    stop = Stop(drain_s=5)
    before = stop.left_s
    stop.request()
    assert [before, stop.left_s, stop.left_s] == [None, 2, 0]


def test_a_nap_after_a_request_lasts_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=slept.append)
    monkeypatch.setattr("operators.shutdown.time", clock)
    stop = Stop()
    stop.request()
    stop.nap(30)
    assert slept == [0.5]


def test_a_wait_ends_with_a_request() -> None:
    stop = Stop()
    started = time.monotonic()
    threading.Timer(0.05, stop.request).start()
    stop.wait(30)
    assert time.monotonic() - started < 5
    stop.wait(30)
    assert time.monotonic() - started < 5


def test_a_wait_without_a_request_takes_its_time() -> None:
    started = time.monotonic()
    Stop().wait(0.06)
    assert time.monotonic() - started >= 0.06


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    drain_on_signals()
    signal.raise_signal(number)
    assert STOP.requested
    assert caplog.messages == [f"{number.name}: sources end, buffers flush, then exit"]


@pytest.mark.usefixtures("_handlers")
def test_the_same_signal_for_the_second_time_is_not_caught() -> None:
    drain_on_signals()
    signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL


@pytest.mark.usefixtures("_handlers")
def test_a_thread_of_a_host_program_leaves_its_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=drain_on_signals)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
