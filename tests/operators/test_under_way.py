"""Who is in a stage stands on a page that outlives the process, and only who ends it is blamed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastembed_stream import DeviceError, SettingError
from operators import Batch, RetrieveStage, StageLimits
from operators.stages import StageLogic, _Workshop
from operators.under_way import UNDER_WAY, UnderWay
from tests.operators.things import batch, failed, failure, numbers, record, wait_until

WITHIN_S = 5.0
STEP = "flow.embed"


def page(folder: Path) -> UnderWay:
    """Read the page as the next process does."""
    opened = UnderWay()
    opened.open(folder)
    return opened


def killed_with(folder: Path, *under_way: Batch) -> UnderWay:
    """Make a process that dies while these are in a stage; give the next one."""
    process = page(folder)
    with ExitStack() as stack:
        for one in under_way:
            stack.enter_context(process.entered(STEP, "embed dense", one.records))
        return page(folder)


@pytest.fixture
def suspected(tmp_path: Path) -> Iterator[None]:
    """Have record 2 under way at the last end of this process' flow."""
    killed_with(tmp_path, batch(2)).close()
    UNDER_WAY.open(tmp_path)
    yield
    UNDER_WAY.close()


def test_who_was_in_a_stage_at_the_end_is_a_suspect_at_the_next_start(tmp_path: Path) -> None:
    after = killed_with(tmp_path, batch(0, 1))
    found = after.suspect(STEP, batch(1))
    assert found is not None
    assert (found.n_ends, found.stage) == (1, "embed dense")
    assert after.suspect(STEP, batch(2)) is None
    assert after.suspect("flow.other", batch(1)) is None


def test_ends_in_a_row_are_counted_and_coming_through_clears(tmp_path: Path) -> None:
    for _ in range(2):
        killed_with(tmp_path, batch(1, 2))
    after = killed_with(tmp_path, batch(1))
    counts = [suspect.n_ends for n in (1, 2) if (suspect := after.suspect(STEP, batch(n)))]
    assert counts == [3, 2]
    after.cleared(STEP, batch(2))
    assert after.suspect(STEP, batch(2)) is None
    assert page(tmp_path).suspect(STEP, batch(2)) is None


def test_who_has_left_a_stage_is_no_suspect(tmp_path: Path) -> None:
    before = page(tmp_path)
    with before.entered(STEP, "embed dense", batch(0).records):
        pass
    assert page(tmp_path).suspect(STEP, batch(0)) is None


def test_an_end_that_has_another_cause_blames_nobody(tmp_path: Path) -> None:
    before = page(tmp_path)
    with before.entered(STEP, "embed dense", batch(0).records):
        before.close()  # as at the exit of a process whose other step has failed
        assert page(tmp_path).suspect(STEP, batch(0)) is None


def test_an_end_by_a_hang_blames_who_is_under_way(tmp_path: Path) -> None:
    before = page(tmp_path)
    with before.entered(STEP, "embed dense", batch(0).records):
        before.keep()
        before.close()
        assert page(tmp_path).suspect(STEP, batch(0)) is not None


def test_the_processes_of_a_flow_share_the_page_and_its_counts(tmp_path: Path) -> None:
    killed_with(tmp_path, batch(0), batch(7))
    first, second = page(tmp_path), page(tmp_path)
    for process in (first, second):
        found = process.suspect(STEP, batch(7))
        assert found is not None
        assert found.n_ends == 1


def test_without_a_folder_nobody_is_ever_a_suspect() -> None:
    nowhere = UnderWay()
    with nowhere.entered(STEP, "embed dense", batch(0).records):
        assert nowhere.pieces(STEP, batch(0, 1)) == [batch(0, 1)]


def test_a_page_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "under_way.db").mkdir()
    broken = page(tmp_path)
    with broken.entered(STEP, "embed dense", batch(0).records):
        assert broken.suspect(STEP, batch(0)) is None


def test_a_suspect_stands_alone_in_its_place_with_all_its_parts(tmp_path: Path) -> None:
    after = killed_with(tmp_path, batch(2, 3))
    parts = (record(2, "first"), record(2, "second"))
    whole = Batch(
        records=(*batch(0, 1).records, *parts, *batch(3, 4, 5).records), failures=(failure(9),)
    )
    pieces = after.pieces(STEP, whole)
    assert [numbers([piece]) for piece in pieces] == [[0, 1], [2, 2], [3], [4, 5]]
    assert failed([piece.failures for piece in pieces]) == [9]


@pytest.mark.usefixtures("suspected")
def test_a_suspect_runs_while_no_other_batch_is_in_a_stage() -> None:
    running: list[int] = []
    most_beside: list[int] = []
    go = threading.Event()

    def stage(one: Batch) -> Batch:
        running.extend(numbers([one]))
        if numbers([one]) == [2]:
            most_beside.append(len(running))
        else:
            go.wait(WITHIN_S)
        running.remove(numbers([one])[0])
        return one

    workshop = _Workshop((stage,), StageLimits(in_flight=3), STEP)
    futures = [workshop.submit(batch(number)) for number in (1, 2, 3)]
    wait_until(lambda: running)
    go.set()
    assert [numbers([one.result(WITHIN_S)]) for one in futures] == [[1], [2], [3]]
    assert most_beside == [1]
    assert UNDER_WAY.suspect(STEP, batch(2)) is None, "it has come through"


def test_no_record_fails_for_an_end_at_which_it_was_not_alone() -> None:
    with pytest.raises(SettingError, match="record_attempts=1"):
        StageLimits(record_attempts=1)


@pytest.mark.usefixtures("suspected")
def test_no_batch_goes_before_a_suspect_that_came_earlier() -> None:
    order: list[int] = []
    go = threading.Event()

    def stage(one: Batch) -> Batch:
        if numbers([one]) == [1]:
            assert go.wait(WITHIN_S)
        order.extend(numbers([one]))
        return one

    workshop = _Workshop((stage,), StageLimits(in_flight=4), STEP)
    futures = [workshop.submit(batch(number)) for number in (1, 2, 3, 4)]
    # 3 and 4 could run beside 1, and 2 would wait for them: as long as for three, and not for one.
    with pytest.raises(FutureTimeoutError):
        futures[2].result(0.2)
    go.set()
    for future in futures:
        future.result(WITHIN_S)
    assert order[:2] == [1, 2]


@pytest.mark.usefixtures("suspected")
def test_a_record_of_too_many_ends_fails_without_another_try(tmp_path: Path) -> None:
    UNDER_WAY.close()
    killed_with(tmp_path, batch(2)).close()
    UNDER_WAY.open(tmp_path)

    def never(_: Batch) -> Batch:
        raise OSError

    limits = StageLimits(record_attempts=2)
    workshop = _Workshop((never,), limits, STEP)
    done = workshop.submit(batch(2)).result(WITHIN_S)
    assert failed([done.failures]) == [2]
    assert done.failures[0].stage == "embed dense"
    assert done.failures[0].error_type == "operators.under_way.UnfinishedError"
    assert "offset 2 of docs/0 was in stage 'embed dense' at the last 2 ends" in (
        done.failures[0].reason
    )


@pytest.mark.usefixtures("suspected")
def test_batches_in_flight_are_resumed_in_pieces_and_in_order() -> None:
    workshop = _Workshop((lambda one: one,), StageLimits(), STEP)
    logic = StageLogic(
        workshop.submit,
        StageLimits(),
        (batch(1, 2, 3),),
        lambda one: UNDER_WAY.pieces(STEP, one),
    )
    assert [numbers([one]) for one in logic.snapshot()] == [[1], [2], [3]]
    assert [numbers([one]) for one in logic.on_eof()[0]] == [[1], [2], [3]]


def test_a_batch_that_waits_out_an_outage_is_not_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    tries: list[int] = []

    def nap(_: float) -> None:
        found.append(page(tmp_path).suspect(STEP, batch(0)))

    def shaky(one: Batch) -> Batch:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return one

    monkeypatch.setattr("operators.stages._nap", nap)
    UNDER_WAY.open(tmp_path)
    try:
        _Workshop((shaky,), StageLimits(), STEP).submit(batch(0)).result(WITHIN_S)
    finally:
        UNDER_WAY.close()
    assert found == [None]


def test_no_outage_that_a_stage_waits_out_itself_makes_a_dead_letter(tmp_path: Path) -> None:
    is_back = threading.Event()
    n_asked = 0

    class Asking:
        waits_out_outages = True

        def __call__(self, one: Batch) -> Batch:
            nonlocal n_asked
            n_asked += 1
            assert is_back.wait(WITHIN_S)
            return one

    limits = StageLimits(batch_timeout_s=0.01, record_attempts=2)
    for number in range(3):
        UNDER_WAY.open(tmp_path)
        workshop = _Workshop((Asking(),), limits, STEP)
        logic = StageLogic(workshop.submit, limits, (batch(2),))
        wait_until(lambda number=number: n_asked > number)  # type: ignore[misc]
        with pytest.raises(DeviceError, match="hangs"):
            wait_until(lambda logic=logic: logic.on_notify()[1])  # type: ignore[misc]
        UNDER_WAY.close()
    is_back.set()
    UNDER_WAY.open(tmp_path)
    done = _Workshop((Asking(),), limits, STEP).submit(batch(2)).result(WITHIN_S)
    UNDER_WAY.close()
    assert numbers([done]) == [2]


def test_what_asks_a_server_for_hits_waits_out_its_outages() -> None:
    assert RetrieveStage.waits_out_outages
