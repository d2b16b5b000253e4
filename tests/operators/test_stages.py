"""Stages run off the worker's thread, in order; the guilty fail alone, outages fail nobody."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream import DeviceError, ModelFilesError, SettingError
from operators import Batch, BrokenFlowError, Failures, Stage, StageLimits, run_stages
from operators.metrics import FAILURES, RETRIES
from operators.shutdown import STOP
from operators.stages import StageLogic, _Workshop, apply, is_outage
from tests.operators.things import (
    EntryPoint,
    Kept,
    Lists,
    batch,
    failed,
    failure,
    numbers,
    wait_until,
)

WITHIN_S = 5.0


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that retries would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("operators.stages._nap", slept.append)
    return slept


def same(batch: Batch) -> Batch:
    return batch


def refusing(guilty: set[int]) -> Stage:
    """Make a stage that fails for a whole batch as soon as one of these is in it."""

    def refuse(batch: Batch) -> Batch:
        found = guilty.intersection(numbers([batch]))
        if found:
            msg = f"bad: {sorted(found)}"
            raise ValueError(msg)
        return batch

    return refuse


def staged(
    entry_point: EntryPoint,
    batches: Sequence[Batch],
    stages: Sequence[Stage],
    limits: StageLimits | None = None,
) -> tuple[list[Batch], list[Failures]]:
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("staging")
    source = op.input("in", flow, Lists({"all": [("k", one) for one in batches]}))
    split = run_stages("run", source, stages=stages, limits=limits or StageLimits())
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    return oks.items, errs.items


def chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *chain(error.__cause__ or error.__context__)]


def test_a_batch_passes_all_stages_in_their_order(entry_point: EntryPoint) -> None:
    order: list[str] = []

    def noting(name: str) -> Stage:
        def note(batch: Batch) -> Batch:
            order.append(name)
            return batch

        return note

    oks, errs = staged(entry_point, [batch(0, 1)], [noting("dense"), noting("sparse")])
    assert order == ["dense", "sparse"]
    assert (numbers(oks), errs) == ([0, 1], [])


def test_results_keep_the_order_of_their_batches_whoever_is_done_first(
    entry_point: EntryPoint,
) -> None:
    second_done = threading.Event()

    def uneven(batch: Batch) -> Batch:
        if numbers([batch]) == [0]:
            assert second_done.wait(WITHIN_S)
        if numbers([batch]) == [1]:
            second_done.set()
        return batch

    oks, errs = staged(entry_point, [batch(n) for n in range(6)], [uneven])
    assert [numbers([one]) for one in oks] == [[n] for n in range(6)]
    assert errs == []


def test_two_batches_are_under_way_at_once(entry_point: EntryPoint) -> None:
    both = threading.Barrier(2)

    def meet(batch: Batch) -> Batch:
        both.wait(WITHIN_S)
        return batch

    batches = [batch(n) for n in range(4)]
    oks, errs = staged(entry_point, batches, [meet], StageLimits(in_flight=2))
    assert (numbers(oks), errs) == ([0, 1, 2, 3], [])


def test_no_more_batches_run_at_once_than_the_limit(entry_point: EntryPoint) -> None:
    lock = threading.Lock()
    running, most = 0, 0

    def count(batch: Batch) -> Batch:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return batch

    oks, _ = staged(entry_point, [batch(n) for n in range(20)], [count], StageLimits(in_flight=2))
    assert numbers(oks) == list(range(20))
    assert most == 2


@given(st.integers(1, 12), st.sets(st.integers(0, 11)))
def test_exactly_the_guilty_records_fail_and_their_neighbours_keep_their_order(
    n_records: int, guilty: set[int]
) -> None:
    done = apply(refusing(guilty), batch(*range(n_records)))
    assert numbers([done]) == [n for n in range(n_records) if n not in guilty]
    assert failed([done.failures]) == [n for n in range(n_records) if n in guilty]
    assert all(one.reason == f"bad: [{one.origin.offset}]" for one in done.failures)


def test_the_guilty_leave_a_flow_on_their_own_way(entry_point: EntryPoint) -> None:
    before = FAILURES.labels("refuse")._value.get()
    oks, errs = staged(entry_point, [batch(0, 1, 2), batch(3, 4), batch(5)], [refusing({1, 5})])
    assert numbers(oks) == [0, 2, 3, 4]
    assert failed(errs) == [1, 5]
    [one, _] = [one for some in errs for one in some]
    assert (one.stage, one.error_type) == ("refuse", "builtins.ValueError")
    assert "in refuse" in one.traceback
    assert FAILURES.labels("refuse")._value.get() - before == 2


def test_failures_of_earlier_steps_pass_through() -> None:
    done = apply(refusing({1}), Batch(records=batch(0, 1).records, failures=(failure(9),)))
    assert failed([done.failures]) == [9, 1]
    only = Batch(records=(), failures=(failure(9),))
    assert apply(refusing(set()), only) == only


def test_a_stage_is_not_asked_for_an_empty_batch() -> None:
    def never(_: Batch) -> Batch:
        raise OSError

    assert apply(never, Batch(records=())) == Batch(records=())


OUTAGES = [
    DeviceError("lost"),
    MemoryError(),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    ConnectionError("no errno"),
    TimeoutError("slow"),
    *(
        OSError(number, "the machine's")
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE)
    ),
    *(
        OSError(number, "the machine's")
        for number in (errno.ENOMEM, errno.EROFS, errno.ENETUNREACH, errno.EHOSTUNREACH)
    ),
]
RECORDS_FAULTS = [
    OSError("cannot identify image file"),  # PIL.UnidentifiedImageError is one
    FileNotFoundError(errno.ENOENT, "no such file"),
    IsADirectoryError(errno.EISDIR, "a folder"),
    PermissionError(errno.EACCES, "not yours"),
    OSError(errno.ENAMETOOLONG, "name too long"),
    ValueError("bad"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_what_no_record_can_cause_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", RECORDS_FAULTS, ids=repr)
def test_a_file_that_is_missing_or_no_image_fails_the_record_that_names_it(
    error: Exception,
) -> None:
    def load(batch: Batch) -> Batch:
        if 1 in numbers([batch]):
            raise error
        return batch

    done = apply(load, batch(0, 1, 2))
    assert (numbers([done]), failed([done.failures])) == ([0, 2], [1])


@pytest.mark.parametrize("error", [ModelFilesError("no graph"), SettingError("wrong folder")])
def test_a_model_that_cannot_be_opened_ends_the_flow_at_once_and_harms_no_record(
    entry_point: EntryPoint, naps: list[float], error: Exception
) -> None:
    tries: list[int] = []

    def unopened(_: Batch) -> Batch:
        tries.append(1)
        raise error

    with pytest.raises((type(error), RuntimeError)) as caught:
        staged(entry_point, [batch(0, 1)], [unopened])
    assert any(isinstance(one, type(error)) for one in chain(caught.value))
    assert (len(tries), naps) == (1, [])


def test_a_request_to_stop_ends_the_sleep_before_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.stages.wait_random_exponential", lambda **_: lambda _: 300)
    tries: list[int] = []

    def shaky(batch: Batch) -> Batch:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return batch

    future = _Workshop((shaky,), StageLimits()).submit(batch(0))
    wait_until(lambda: tries)
    STOP.request()
    assert numbers([future.result(WITHIN_S)]) == [0]


@pytest.mark.parametrize(
    "outage", [DeviceError, MemoryError, ConnectionError, partial(OSError, errno.ENOSPC, "full")]
)
def test_an_outage_is_tried_again_and_harms_no_record(
    entry_point: EntryPoint, naps: list[float], outage: Callable[[], Exception]
) -> None:
    tries: list[int] = []
    before = RETRIES.labels("stages")._value.get()

    def shaky(batch: Batch) -> Batch:
        tries.append(1)
        if len(tries) < 3:
            raise outage()
        return batch

    oks, errs = staged(entry_point, [batch(0, 1)], [shaky])
    assert (numbers(oks), errs) == ([0, 1], [])
    assert (len(tries), len(naps)) == (3, 2)
    assert RETRIES.labels("stages")._value.get() > before


def test_an_outage_that_lasts_fails_the_flow_and_no_record(
    entry_point: EntryPoint, naps: list[float]
) -> None:
    def broken(_: Batch) -> Batch:
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(RuntimeError) as caught:
        staged(entry_point, [batch(0)], [broken], StageLimits(attempts=3))
    assert any(isinstance(one, OSError) and "no space" in str(one) for one in chain(caught.value))
    assert len(naps) == 2


def test_a_hanging_batch_fails_the_flow_and_says_so(entry_point: EntryPoint) -> None:
    until_the_end = threading.Event()

    def hang(batch: Batch) -> Batch:
        until_the_end.wait(WITHIN_S)
        return batch

    try:
        with pytest.raises(RuntimeError) as caught:
            staged(entry_point, [batch(0, 1)], [hang], StageLimits(batch_timeout_s=0.2))
    finally:
        until_the_end.set()
    said = [str(one) for one in chain(caught.value) if isinstance(one, DeviceError)]
    assert said
    assert "A batch of 2 records is not done after 0 s" in said[0]


def test_a_hanging_batch_is_noticed_though_no_other_comes() -> None:
    logic = StageLogic(lambda _: Future(), StageLimits(batch_timeout_s=0.05))
    assert logic.on_batch([batch(0)]) == ([], False)

    def noticed() -> bool:
        try:
            logic.on_notify()
        except DeviceError:
            return True
        return False

    wait_until(noticed)


def test_a_stages_own_time_out_is_not_taken_for_a_hanging_batch() -> None:
    late: Future[Batch] = Future()
    late.set_exception(TimeoutError("the model's server is slow"))
    logic = StageLogic(lambda _: late, StageLimits())
    with pytest.raises(TimeoutError, match="server is slow"):
        logic.on_batch([batch(0)])


def by_hand(
    limits: StageLimits, unfinished: tuple[Batch, ...] = ()
) -> tuple[StageLogic, list[Future[Batch]]]:
    """Make a logic whose batches are done when the test says so."""
    futures: list[Future[Batch]] = []

    def submit(_: Batch) -> Future[Batch]:
        futures.append(Future())
        return futures[-1]

    return StageLogic(submit, limits, unfinished), futures


def test_a_batch_that_outlasts_the_time_to_drain_ends_the_flow_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(STOP, "drain_s", 0.1)
    logic, _ = by_hand(StageLimits())
    logic.on_batch([batch(0, 1)])
    STOP.request()
    with pytest.raises(BrokenFlowError, match="2 records is not done, and the time to drain is"):
        logic.on_eof()


def test_a_request_to_stop_in_the_middle_of_a_wait_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(STOP, "drain_s", 0.1)
    logic, _ = by_hand(StageLimits())
    logic.on_batch([batch(0)])
    threading.Timer(0.1, STOP.request).start()
    with pytest.raises(BrokenFlowError, match="They are repeated on resume"):
        logic.on_eof()


def test_a_batch_that_is_done_lands_though_the_time_to_drain_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(STOP, "drain_s", 0.0)
    logic, futures = by_hand(StageLimits())
    logic.on_batch([batch(0)])
    STOP.request()
    futures[0].set_result(batch(0))
    assert logic.on_eof() == ([batch(0)], True)


def test_inputs_in_flight_are_the_state_and_a_copy_of_it() -> None:
    logic, futures = by_hand(StageLimits())
    logic.on_batch([batch(0), batch(1)])
    kept = logic.snapshot()
    futures[0].set_result(batch(0))
    assert logic.on_notify() == ([batch(0)], False)
    assert kept == (batch(0), batch(1))
    assert logic.snapshot() == (batch(1),)


def test_batches_in_flight_are_submitted_again_on_resume() -> None:
    logic, futures = by_hand(StageLimits(), unfinished=(batch(0), batch(1)))
    assert len(futures) == 2
    assert logic.notify_at() is not None
    for number, future in enumerate(futures):
        future.set_result(batch(number))
    assert logic.on_eof() == ([batch(0), batch(1)], True)
    assert logic.on_eof() == ([], True)


def test_a_step_is_full_when_as_many_batches_run_as_may() -> None:
    logic, futures = by_hand(StageLimits(in_flight=2))
    logic.on_batch([batch(0)])
    assert not logic.full
    logic.on_batch([batch(1)])
    fullness = [logic.full]
    futures[0].set_result(batch(0))
    logic.on_notify()
    assert [*fullness, logic.full] == [True, False]


def test_what_waits_is_bounded_though_a_source_does_not_heed_it() -> None:
    waiting = 0

    def submit(batch: Batch) -> Future[Batch]:
        nonlocal waiting
        waiting = max(waiting, len(logic.snapshot()))
        future: Future[Batch] = Future()
        future.set_result(batch)
        return future

    logic = StageLogic(submit, StageLimits(in_flight=2))
    done, _ = logic.on_batch([batch(n) for n in range(100)])
    assert waiting < 16
    assert numbers(done) == list(range(100))


def test_nothing_under_way_asks_for_no_notification() -> None:
    logic, _ = by_hand(StageLimits())
    assert logic.notify_at() is None
    assert logic.on_notify() == ([], True)


@pytest.mark.parametrize("name", ["in_flight", "batch_timeout_s", "attempts"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name}=0"):
        StageLimits(**{name: 0})


def test_a_stage_is_named_by_its_name_its_function_or_its_class() -> None:
    class Named:
        name = "embed dense"

        def __call__(self, batch: Batch) -> Batch:
            raise ValueError(len(batch.records))

    class Plain(Named):
        name = ""

    stages: list[Callable[[Batch], Batch]] = [Named(), refusing({0}), Plain()]
    found = [apply(stage, batch(0)).failures[0].stage for stage in stages]
    assert found == ["embed dense", "refuse", "Plain"]


def test_the_threads_of_a_step_end_with_it() -> None:
    before = {thread.name for thread in threading.enumerate()}
    workshop = _Workshop((same,), StageLimits())
    workshop.submit(batch(0)).result(WITHIN_S)
    mine = [t for t in threading.enumerate() if t.name.startswith("stages") and t.daemon]
    assert mine
    del workshop
    wait_until(lambda: not [t for t in mine if t.is_alive() and t.name not in before])
