"""
Rows to answers, whatever the family: read, plan, run on lanes, put back in order.

Every ONNX family is the same four steps, and this is the one place that drives them:

    read (rows -> ragged ids) -> pack (pad one group) -> infer (the session) -> finish (answers)

A row's answer does not depend on its neighbours, on the budget, on the lanes or on the order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from fastembed_stream.errors import SettingError
from fastembed_stream.plan import pack
from fastembed_stream.threads import Threads
from fastembed_stream.warm_up import CPU_BUDGETS, GPU_BUDGETS, best_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastembed_stream.session import Session
    from fastembed_stream.tokens import Reading
    from fastembed_stream.values import Feeds, Ints, Outputs

__all__ = ["Counts", "Embedder", "Family"]

Row = TypeVar("Row")
Row_contra = TypeVar("Row_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)

_WORTH_MEASURING = 16_384
"""Tokens in one call from which the second that a calibration takes pays for itself."""


class Family(Protocol[Row_contra, Answer_co]):
    """What a family of models knows: how to read rows, pad a group, and finish tensors."""

    @property
    def outputs(self) -> Sequence[str]:
        """Name the outputs of the graph that `finish` takes."""

    def read(self, rows: Sequence[Row_contra]) -> Reading:
        """Turn rows into ragged ids."""

    def sample(self, n_tokens: int) -> Reading:
        """Make rows of an ordinary length, about so many tokens in all, to measure speed with."""

    def widths(self, reading: Reading) -> Ints:
        """Tell how many tokens each row costs when it runs alone, int64[n_rows]."""

    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """Pad some rows into the arrays that the graph takes."""

    def finish(self, outputs: Outputs, feeds: Feeds) -> Sequence[Answer_co]:
        """Turn a group's tensors into one answer for each of its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What an embedder has read so far."""

    rows: int = 0
    tokens: int = 0
    truncated_rows: int = 0
    truncated_tokens: int = 0

    def plus(self, reading: Reading) -> Counts:
        """Add one reading."""
        return Counts(
            rows=self.rows + reading.n_rows,
            tokens=self.tokens + int(reading.lengths.sum()),
            truncated_rows=self.truncated_rows + reading.truncated_rows,
            truncated_tokens=self.truncated_tokens + reading.truncated_tokens,
        )


@dataclass(frozen=True, slots=True)
class _Work(Generic[Answer]):
    """Rows under way: their groups, and where each answer belongs."""

    n_rows: int
    groups: list[tuple[Ints, Future[Sequence[Answer]]]]

    def answers(self) -> list[Answer]:
        """Wait, and give one answer for each row in the order of the rows."""
        placed: dict[int, Answer] = {}
        try:
            for rows, group in self.groups:
                placed.update(zip(rows.tolist(), group.result(), strict=True))
        finally:
            self.cancel()  # after a failure, what has not started would run for nobody
        return [placed[row] for row in range(self.n_rows)]

    def cancel(self) -> None:
        """Drop the groups that have not started."""
        for _, group in self.groups:
            group.cancel()


class Embedder(Generic[Row, Answer]):
    """
    A callable from rows to answers, in order, safe to call from several threads.

    family    how rows are read and tensors finished
    sessions  the same graph on one or more devices; each takes `session.lanes` calls at a time
    budget    tokens of one group; None measures it at the first call that is worth it

    Calls from several threads share the lanes: while one call's last groups finish, the next
    call's first groups already run.
    """

    def __init__(
        self, family: Family[Row, Answer], sessions: Sequence[Session], *, budget: int | None = None
    ) -> None:
        self.family = family
        self.sessions = tuple(sessions)
        self._counts = Counts()
        self._counting = threading.Lock()
        self._lanes = _Lanes(self.sessions)
        self._budget = _Budget(budget, on_gpu=any(s.device == "cuda" for s in self.sessions))

    def with_family(self, family: Family[Row, Answer]) -> Embedder[Row, Answer]:
        """Give an embedder that differs by its family and shares sessions, lanes and budget."""
        other = Embedder.__new__(type(self))
        other.__dict__.update(self.__dict__, family=family, _counts=Counts())
        return other

    def __call__(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer all rows, in their order."""
        return self._start(rows).answers() if rows else []

    def stream(self, rows: Iterable[Row], *, window: int) -> Iterator[Answer]:
        """
        Answer rows as they come, in their order.

        window  rows that are sorted and packed together; the next window is read while one runs
        """
        if window < 1:
            msg = f"A window must hold at least 1 row; got {window}."
            raise SettingError(msg)
        pending: deque[_Work[Answer]] = deque()
        source = iter(rows)
        try:
            while chunk := list(islice(source, window)):
                pending.append(self._start(chunk))
                if len(pending) > 1:
                    yield from pending.popleft().answers()
            while pending:
                yield from pending.popleft().answers()
        finally:
            for work in pending:
                work.cancel()

    def warm_up(self) -> int:
        """Measure the token budget now unless it is set, and give it."""
        return self._budget.measured(self._seconds_for)

    def close(self) -> None:
        """End the lanes; the sessions stay open for others."""
        self._lanes.close()

    @property
    def counts(self) -> Counts:
        """Tell what was read so far."""
        return self._counts

    def _start(self, rows: Sequence[Row]) -> _Work[Answer]:
        reading = self.family.read(rows)
        with self._counting:
            self._counts = self._counts.plus(reading)
        widths = self.family.widths(reading)
        n_tokens = int(widths.sum())
        budget = self.warm_up() if n_tokens >= _WORTH_MEASURING else self._budget.known
        groups = [
            (group, self._lanes.submit(self._group, reading, group))
            for group in pack(widths, budget)
        ]
        return _Work(reading.n_rows, groups)

    def _group(self, session: Session, reading: Reading, rows: Ints) -> Sequence[Answer]:
        feeds = self.family.pack(reading, rows)
        return self.family.finish(session.run(self.family.outputs, feeds), feeds)

    def _seconds_for(self, budget: int) -> float:
        """Run one group of that size on every lane at once; tell the seconds."""
        reading = self.family.sample(budget)
        rows = np.arange(reading.n_rows)
        start = time.perf_counter()
        running = [self._lanes.submit(self._group, reading, rows) for _ in range(self._lanes.n)]
        for group in running:
            group.result()
        return time.perf_counter() - start


class _Lanes:
    """
    Threads that run groups, each on a session that has a place free.

    A session stands in the queue once for each of its lanes, so devices of unlike speed each take
    what they can.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._free: SimpleQueue[Session] = SimpleQueue()
        for session in sessions:
            for _ in range(session.lanes):
                self._free.put(session)
        self.n = sum(session.lanes for session in sessions)
        self._threads = Threads(self.n, "lane")

    def submit(
        self,
        run: Callable[[Session, Reading, Ints], Sequence[Answer]],
        reading: Reading,
        rows: Ints,
    ) -> Future[Sequence[Answer]]:
        def on_free_session(rows: Ints) -> Sequence[Answer]:
            session = free.get()
            try:
                return run(session, reading, rows)
            finally:
                free.put(session)

        free = self._free
        return self._threads.submit(on_free_session, rows)

    def close(self) -> None:
        self._threads.close()


class _Budget:
    """Tokens of one group: given, or measured once, or a default until then."""

    def __init__(self, given: int | None, *, on_gpu: bool) -> None:
        self._value = given
        self._candidates = GPU_BUDGETS if on_gpu else CPU_BUDGETS
        self._default = 8192 if on_gpu else 256
        self._lock = threading.Lock()

    @property
    def known(self) -> int:
        return self._value or self._default

    def measured(self, seconds_for: Callable[[int], float]) -> int:
        with self._lock:
            if self._value is None:
                self._value = best_budget(seconds_for, self._candidates)
            return self._value
