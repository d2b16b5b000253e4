"""
How far a process has come: what was read, written and refused, and why.

All numbers are those of the metrics, and looked at once in a while: the way of a good record costs
nothing for it. Bytewax runs the workers of a process as threads, so that they share one tally.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter

from operators.metrics import POINTS_WRITTEN, RECORDS_READ, RESULTS_WRITTEN
from operators.records import Failure, Failures
from operators.shutdown import STOP

__all__ = ["PROGRESS", "FailureLimit", "Progress"]

_LOG = logging.getLogger(__name__)

_EVERY_S = 60.0
_MOST_KINDS = 10
_LONGEST_REASON = 300

# What differs between two reasons of one kind: what a message says, and numbers.
_PARTICULARS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\d,.]*\d")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLimit:
    """
    How many failures are too many.

    max_share  of the last records that may fail; 1 is never too many
    n_last     how many records are the last
    n_least    before so many are read, none are too many
    """

    max_share: float = 1.0
    n_last: int = 1_000
    n_least: int = 100


class Progress:
    """
    The tally of a process.

    read     gives how many records were read since the process started
    written  gives how many points, lines and answers were written since then
    """

    broken: str | None = None
    """Why the flow was asked to end: too many failures."""

    def __init__(self, read: Callable[[], int], written: Callable[[], int]) -> None:
        self._read = read
        self._written = written
        self._lock = threading.Lock()
        self.start()

    def start(
        self,
        limit: FailureLimit = FailureLimit(),
        end: Callable[[], None] = STOP.request,
    ) -> None:
        """
        Count from here on.

        end  called once, when failures are too many
        """
        with self._lock:
            self._limit = limit
            self._end = end
            self._n_read_before = self._read()
            self._n_written_before = self._written()
            self._n_refused = 0
            self._reasons: dict[str, tuple[str, int]] = {}
            self._n_other = 0
            # How many had been refused when so many had been read: the last before the window,
            # and all within it.
            self._steps: deque[tuple[int, int]] = deque([(0, 0)])
            self.broken: str | None = None

    def refused(self, failures: Failures) -> None:
        """Count failures that are on their way to the dead letters."""
        if not failures:
            return
        # A document whose parts are refused is one record, whatever its parts.
        records = {(one.origin.source, one.origin.offset): one for one in failures}
        with self._lock:
            self._n_refused += len(records)
            for failure in records.values():
                self._tell_apart(failure)
            n_read = max(self._read() - self._n_read_before, 0)
            if self._steps[-1][0] == n_read:
                self._steps.pop()
            self._steps.append((n_read, self._n_refused))
            self._judge(n_read)

    def judge_the_end(self) -> None:
        """Judge what was read when nothing more will be: then a few records are all there are."""
        with self._lock:
            self.broken = self.broken or self._too_many(self._read() - self._n_read_before)

    def told(self) -> str:
        """Say it all in one line."""
        with self._lock:
            n_read = self._read() - self._n_read_before
            n_written = self._written() - self._n_written_before
            line = f"{n_read:,} read, {n_written:,} written, {self._n_refused:,} refused"
            if not self._reasons:
                return line
            reasons = [f"{n:,} times {first}" for first, n in self._reasons.values()]
            others = [f"{self._n_other:,} times another reason"] if self._n_other else []
            return f"{line}. First of each kind: {' | '.join(reasons + others)}"

    def log(self) -> None:
        """Say it to the log: as a warning where anything was refused."""
        level = logging.WARNING if self._n_refused else logging.INFO
        _LOG.log(level, "Since the start: %s", self.told())

    def log_each_minute(self) -> Callable[[], None]:
        """Say it once a minute from a thread; the answer ends that, and says it once more."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(_EVERY_S):
                self.log()

        def end() -> None:
            if over.is_set():
                return
            over.set()
            if STOP.started or self._anything:  # a flow that could not start says why, and no more
                self.log()

        threading.Thread(target=run, name="progress", daemon=True).start()
        return end

    @property
    def _anything(self) -> bool:
        return self._read() > self._n_read_before or self._n_refused > 0

    def _tell_apart(self, failure: Failure) -> None:
        reason = _on_one_line(failure.reason)
        kind = f"{failure.stage} {failure.error_type} {_PARTICULARS.sub('', reason)}"
        first, n = self._reasons.get(kind, ("", 0))
        if not first and len(self._reasons) == _MOST_KINDS:
            self._n_other += 1
            return
        self._reasons[kind] = first or f"{failure.stage}: {reason}", n + 1

    def _judge(self, n_read: int) -> None:
        if self.broken or n_read < self._limit.n_least:
            return
        self.broken = self._too_many(n_read)
        if self.broken:
            _LOG.error("%s. The flow drains and ends; a restart goes on behind them.", self.broken)
            self._end()

    def _too_many(self, n_read: int) -> str | None:
        limit = self._limit
        start = n_read - limit.n_last
        while len(self._steps) > 1 and self._steps[1][0] <= start:
            self._steps.popleft()
        n_last = min(n_read, limit.n_last)
        n_failed = min(self._n_refused - self._steps[0][1], n_last)
        if n_failed <= limit.max_share * n_last:
            return None
        first, _ = max(self._reasons.values(), key=lambda told: told[1])
        return (
            f"{n_failed:,} of the last {n_last:,} records failed, more than the share of "
            f"{limit.max_share:g} that is allowed (most often {first.rstrip('.')})"
        )


def _on_one_line(reason: str) -> str:
    line = _UNPRINTABLE.sub(" ", reason[: _LONGEST_REASON + 1])
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."


def _count_of(*counters: Counter) -> int:
    """Read counters as a scrape does."""
    return sum(
        int(sample.value)
        for counter in counters
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


PROGRESS = Progress(
    read=lambda: _count_of(RECORDS_READ),
    written=lambda: _count_of(POINTS_WRITTEN, RESULTS_WRITTEN),
)
"""This process' own."""
