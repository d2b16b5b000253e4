"""A process tells how far it is, and ends when too much fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest

from operators import Failure
from operators import progress as progress_module
from operators.metrics import POINTS_WRITTEN, RECORDS_READ, RESULTS_WRITTEN
from operators.progress import PROGRESS, FailureLimit, Progress
from operators.shutdown import STOP
from tests.operators.things import failure, wait_until

NEVER = FailureLimit()
HALF = FailureLimit(max_share=0.5)


class Counts:
    """What the metrics say."""

    read = 0
    written = 0


class Ends:
    """How often the flow was asked to end."""

    n_times = 0

    def __call__(self) -> None:
        self.n_times += 1


def tally(counts: Counts, limit: FailureLimit = NEVER) -> tuple[Progress, Ends]:
    progress = Progress(lambda: counts.read, lambda: counts.written)
    ends = Ends()
    progress.start(limit, ends)
    return progress, ends


def failures(n: int, reason: str = "bad") -> tuple[Failure, ...]:
    return tuple(replace(failure(number), reason=reason) for number in range(n))


def fed(limit: FailureLimit, batches: Sequence[tuple[int, int]]) -> int | None:
    """Read and refuse so many in each batch; give how many were read when the flow was ended."""
    counts = Counts()
    progress, ends = tally(counts, limit)
    for n_read, n_refused in batches:
        counts.read += n_read
        progress.refused(failures(n_refused))
        if ends.n_times:
            assert progress.broken is not None
            return counts.read
    assert progress.broken is None
    return None


def test_what_was_read_written_and_refused_is_counted_from_the_start() -> None:
    counts = Counts()
    counts.read = counts.written = 7
    progress, _ = tally(counts)
    counts.read, counts.written = 1_241, 1_207
    progress.refused(failures(34, "The value is not JSON."))
    assert progress.told() == (
        "1,234 read, 1,200 written, 34 refused. First of each kind: "
        "34 times decode: The value is not JSON."
    )


def test_a_kind_is_told_once_by_its_first_reason_whatever_a_message_says() -> None:
    progress, _ = tally(Counts())
    starts = ["{x", "'", "a 'b' c", '"', "1.5"]
    for place, start in enumerate(starts):
        reason = f"The value is not JSON: char {place * 10}. It starts with {start!r}."
        progress.refused(failures(1, reason))
    progress.refused((replace(failure(1), stage="qdrant", reason="Wrong vector."),))
    assert progress.told().partition("kind: ")[2] == (
        "5 times decode: The value is not JSON: char 0. It starts with '{x'. | "
        "1 times qdrant: Wrong vector."
    )


def test_a_document_whose_parts_are_refused_is_one_record() -> None:
    counts = Counts()
    progress, ends = tally(counts, HALF)
    counts.read = 1_000
    progress.refused(failures(1) * 800)
    assert "1 refused" in progress.told()
    assert ends.n_times == 0


def test_a_line_is_bounded_and_one_line_whatever_is_in_it() -> None:
    progress, _ = tally(Counts())
    for number in range(500):
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        progress.refused(failures(1, f"{letters}\n\x1b[31m\u2028 2026 ERROR forged" + "x" * 5_000))
    told = progress.told()
    assert len(told) < 5_000
    assert told.isprintable()
    assert told.endswith("490 times another reason")


def test_a_log_without_failures_is_information_and_one_with_them_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    progress, _ = tally(Counts())
    with caplog.at_level(logging.INFO, "operators.progress"):
        progress.log()
        progress.refused(failures(1))
        progress.log()
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert caplog.messages[0] == "Since the start: 0 read, 0 written, 0 refused"


@pytest.mark.parametrize("n_read", [0, 1])
def test_the_last_line_comes_once_and_not_from_a_flow_that_could_not_start(
    n_read: int, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    progress, _ = tally(counts)
    counts.read = n_read
    end = progress.log_each_minute()
    with caplog.at_level(logging.INFO, "operators.progress"):
        end()
        end()
    assert len(caplog.messages) == n_read


def test_a_line_comes_each_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_module, "_EVERY_S", 0.01)
    progress, _ = tally(Counts())
    with caplog.at_level(logging.INFO, "operators.progress"):
        end = progress.log_each_minute()
        wait_until(lambda: len(caplog.messages) > 2)
        end()


@pytest.mark.parametrize(
    ("batches", "ended_at"),
    [
        ([(1, 1)], None),
        ([(99, 99)], None),
        ([(100, 100)], 100),
        ([(1, 1)] * 200, 100),
        ([(100, 50)] * 100, None),
        ([(100, 50)] * 5 + [(100, 51)], 600),
        ([(1_000_000, 1)] + [(100, 100)] * 20, 1_000_500),
        ([(1_000_000, 0)] + [(100, 100)] * 20, 1_000_600),
        ([(100, 40)] * 100 + [(100, 100)] * 3, 10_200),
        ([(100, 100)] * 4 + [(600, 0)], 100),
        ([(10, 3)] * 1_000, None),
        ([(256, 0), (256, 0), (0, 256), (0, 256)], 512),
    ],
)
def test_a_flow_ends_when_more_than_a_share_of_the_last_records_fails(
    batches: list[tuple[int, int]], ended_at: int | None
) -> None:
    assert fed(HALF, batches) == ended_at


@pytest.mark.parametrize(
    ("n_read", "n_refused", "is_broken"),
    [(0, 0, False), (1, 1, True), (10, 5, False), (10, 6, True), (99, 99, True)],
)
def test_at_its_end_a_short_run_is_judged_too(
    n_read: int, n_refused: int, *, is_broken: bool
) -> None:
    counts = Counts()
    progress, ends = tally(counts, HALF)
    counts.read = n_read
    progress.refused(failures(n_refused))
    progress.judge_the_end()
    assert (progress.broken is not None) == is_broken
    assert ends.n_times == 0


def test_by_default_all_may_fail() -> None:
    assert fed(NEVER, [(1_000, 1_000)] * 10) is None


def test_what_was_read_before_a_restart_and_fails_now_is_no_share_of_what_is_read_now() -> None:
    assert fed(HALF, [(0, 700), (0, 68), (200, 0), (0, 1)]) is None


def test_it_is_told_once_why_the_flow_ends(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    progress, ends = tally(counts, HALF)
    counts.read = 500
    with caplog.at_level(logging.ERROR, "operators.progress"):
        for _ in range(3):
            progress.refused(failures(300, "Field 'text' is missing."))
    assert ends.n_times == 1
    [said] = caplog.messages
    assert said.startswith(
        "300 of the last 500 records failed, more than the share of 0.5 that is allowed "
        "(most often decode: Field 'text' is missing). The flow drains and ends;"
    )


def test_the_numbers_are_those_of_the_metrics() -> None:
    PROGRESS.start()
    RECORDS_READ.inc(5)
    POINTS_WRITTEN.inc(3)
    RESULTS_WRITTEN.inc(1)
    assert PROGRESS.told() == "5 read, 4 written, 0 refused"
    assert not STOP.requested
