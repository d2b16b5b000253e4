"""
Rows to answers, whatever the family: read, plan, run on lanes, put back in order.

Every ONNX family is the same four steps, and this is the one place that drives them:

    read (rows -> ragged ids) -> pack (pad one group) -> infer (the session) -> finish (answers)

A row's answer does not depend on its neighbours, on the budget, on the lanes or on the order.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

import numpy as np
from typing_extensions import override

from fastembed_stream.counts import is_count
from fastembed_stream.embedder import Counts, Reading
from fastembed_stream.errors import RowError, SettingError
from fastembed_stream.lanes import Lanes
from fastembed_stream.plan import pack
from fastembed_stream.rows import all_rows, rows_in
from fastembed_stream.shared_sessions import keep
from fastembed_stream.threads import ForkSafeLock
from fastembed_stream.warm_up import Budget, Layout, calibrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastembed_stream.session import Session
    from fastembed_stream.values import Feeds, Ints, Outputs

__all__ = ["Family", "OnnxEmbedder"]

Read = TypeVar("Read", bound=Reading)
Row = TypeVar("Row")
OtherRow = TypeVar("OtherRow")
OtherAnswer = TypeVar("OtherAnswer")
Row_contra = TypeVar("Row_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)

_WORTH_MEASURING = 16_384
"""Tokens in one call from which the second that a calibration takes pays for itself."""


class Family(Protocol[Row_contra, Read, Answer_co]):
    """
    What a family of models knows: how to read rows, pad a group, and finish tensors.

    `read` runs on the caller's thread, `pack` and `finish` on the lanes, several at a time.
    """

    @property
    def outputs(self) -> Sequence[str]:
        """Name the outputs of the graph that `finish` takes."""

    def read(self, rows: Sequence[Row_contra]) -> Read:
        """Turn rows into what `pack` takes."""

    def sample(self, n_tokens: int) -> Read:
        """Make ordinary rows that cost about so many tokens in all, to measure speed with."""

    def widths(self, reading: Read) -> Ints:
        """Tell how many tokens each row costs when it runs alone, int64[n_rows]."""

    def pack(self, reading: Read, rows: Ints) -> Feeds:
        """Pad some rows into the arrays that the graph takes."""

    def finish(self, outputs: Outputs, feeds: Feeds) -> Sequence[Answer_co]:
        """Turn a group's tensors into one answer for each of its rows."""


@dataclass(frozen=True, slots=True)
class _Work(Generic[Answer]):
    """Rows under way: their groups, where each answer belongs, and how many rows came before."""

    n_rows: int
    groups: list[tuple[Ints, Future[Sequence[Answer]]]]
    n_before: int = 0

    def answers(self) -> list[Answer]:
        """Wait, and give one answer for each row in the order of the rows."""
        placed: dict[int, Answer] = {}
        try:
            for rows, group in self.groups:
                placed.update(zip(rows.tolist(), group.result(), strict=True))
        except RowError as error:
            raise error.after(self.n_before) from error.__cause__
        except CancelledError:
            msg = "The model was closed while this call was under way; open it again."
            raise CancelledError(msg) from None
        finally:
            self.cancel()  # after a failure, what has not started would run for nobody
        return [placed[row] for row in range(self.n_rows)]

    def cancel(self) -> None:
        """Drop the groups that have not started."""
        for _, group in self.groups:
            group.cancel()


class OnnxEmbedder(Generic[Row, Answer]):
    """
    A callable from rows to answers, in order, safe to call from several threads.

    family    how rows are read and tensors finished
    sessions  the same graph on one or more devices; each takes `session.lanes` calls at a time
    budget    tokens of one group; None measures it at the first call that is worth it, together
              with the layout of the lanes where a session has another to compare

    Calls from several threads share the lanes, a group of each in turn; while one call's last
    groups finish, the next call's first groups already run.
    """

    def __init__(
        self,
        family: Family[Row, Any, Answer],
        sessions: Sequence[Session],
        *,
        budget: int | None = None,
    ) -> None:
        self.family = family
        self._counts = Counts()
        self._counting = ForkSafeLock()
        self._lanes = Lanes(tuple(sessions))
        self._budget = Budget(
            budget,
            on_gpu=any(session.device == "cuda" for session in sessions),
            lanes_are_given=self._other_session() is None,
        )

    def with_family(
        self, family: Family[OtherRow, Any, OtherAnswer]
    ) -> OnnxEmbedder[OtherRow, OtherAnswer]:
        """Give an embedder that differs by its family and shares sessions, lanes and budget."""
        other: OnnxEmbedder[OtherRow, OtherAnswer] = OnnxEmbedder.__new__(OnnxEmbedder)
        other.__dict__.update(self.__dict__, family=family, _counts=Counts())
        return other

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        """
        Answer all rows, in their order.

        raises  RowError for the first that cannot be read, by its position
        """
        listed = all_rows(rows)
        return self._start(listed, turn=object()).answers() if listed else []

    def stream(self, rows: Iterable[Row], *, window: int) -> Iterator[Answer]:
        """
        Answer rows as they come, in their order.

        window  rows that are sorted and packed together; the next window is read while one runs
        raises  RowError for the first row that cannot be read, by its position, once the rows of
                the windows before it are answered
        """
        if not is_count(window):
            msg = f"A window must hold at least 1 row; got {window!r}."
            raise SettingError(msg)
        pending: deque[_Work[Answer]] = deque()
        turn = object()  # of all its windows: a long call does not count twice
        windows = _Windows(rows_in(rows), window, partial(self._start, turn=turn))
        try:
            for work in windows:
                pending.append(work)
                if len(pending) > 1:
                    yield from pending.popleft().answers()
            while pending:
                yield from pending.popleft().answers()
        finally:
            for work in pending:
                work.cancel()
        if windows.error is not None:
            raise windows.error

    def count_tokens(self, rows: Iterable[Row]) -> int:
        """Count the tokens that would be run, special tokens included, after truncation."""
        listed = all_rows(rows)
        return int(self.family.read(listed).lengths.sum()) if listed else 0

    def warm_up(self) -> int:
        """Measure now what is not set, the token budget and the lanes, and give the budget."""
        return self._budget.measured(self._calibrated)

    def close(self) -> None:
        """
        End the lanes, and let go of the sessions, which stay open for others that hold them.

        Groups that have not started are cancelled: their calls raise CancelledError, and later ones
        RuntimeError.
        """
        self._lanes.close()

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The graph on each device; warm-up may put one of another layout in its place."""
        return self._lanes.sessions

    @property
    def lanes(self) -> int:
        """Tell how many groups run at once."""
        return self._lanes.n

    @property
    def place(self) -> str:
        """Tell where it runs, such as 'cpu, 2 lanes'."""
        if not self.sessions:
            return "closed"
        devices = "+".join(dict.fromkeys(session.device for session in self.sessions))
        return f"{devices}, {self.lanes} lane{'' if self.lanes == 1 else 's'}"

    @property
    def counts(self) -> Counts:
        """Tell what was read so far."""
        return self._counts

    @override
    def __repr__(self) -> str:
        return f"<OnnxEmbedder {type(self.family).__name__}, {self.place}>"

    @override
    def __reduce__(self) -> NoReturn:
        msg = "An OnnxEmbedder holds threads and sessions; pickle the OpenModel that it belongs to."
        raise TypeError(msg)

    def _start(self, rows: Sequence[Row], n_before: int = 0, *, turn: object) -> _Work[Answer]:
        reading = self.family.read(rows)
        with self._counting:
            self._counts = self._counts.plus(reading)
        widths = self.family.widths(reading)
        n_tokens = int(widths.sum())
        budget = self.warm_up() if n_tokens >= _WORTH_MEASURING else self._budget.known
        groups = [
            (group, self._lanes.submit(self._group, reading, group, turn=turn))
            for group in pack(widths, budget)
        ]
        return _Work(len(widths), groups, n_before)

    def _group(self, session: Session, reading: Reading, rows: Ints) -> Sequence[Answer]:
        feeds = self.family.pack(reading, rows)
        return self.family.finish(session.run(self.family.outputs, feeds), feeds)

    def _calibrated(self, budgets: Sequence[int]) -> int:
        """Measure, settle on a layout, and give the budget."""
        sessions = self.sessions
        if not sessions:
            msg = "The model is closed; open it again."
            raise RuntimeError(msg)
        open_other = self._other_session()
        opened: list[Session] = []

        def other(open_it: Callable[[], Session]) -> Layout:
            opened.append(open_it())
            return self._layout(opened)

        ours = self._layout(sessions)
        found = calibrate(ours, budgets, other=open_other and partial(other, open_other))
        if found.layout is not ours:
            keep(opened[0], instead_of=sessions[0])
            self._lanes.use(tuple(opened))
        return found.budget

    def _other_session(self) -> Callable[[], Session] | None:
        # Several devices are several lanes already.
        return self.sessions[0].other if len(self.sessions) == 1 else None

    def _layout(self, sessions: Sequence[Session]) -> Layout:
        lanes = sum(session.lanes for session in sessions)
        return Layout(lanes=lanes, seconds_for=partial(self._seconds_for, sessions))

    def _seconds_for(self, sessions: Sequence[Session], budget: int) -> float:
        """Run one group of about that size on every lane at once; tell the seconds for it."""
        reading = self.family.sample(budget)
        n_tokens = int(self.family.widths(reading).sum())
        rows = np.arange(reading.n_rows)
        start = time.perf_counter()
        running = self._lanes.on_every(sessions, self._group, reading, rows)
        for group in running:
            group.result()
        return (time.perf_counter() - start) * budget / n_tokens


class _Windows(Generic[Row, Answer]):
    """
    Rows in windows that are under way; what fails ends them, so that those before are answered.

    error  what the source or the reading of a window failed with; that window's rows are lost
    """

    def __init__(
        self,
        rows: Iterator[Row],
        size: int,
        start: Callable[[Sequence[Row], int], _Work[Answer]],
    ) -> None:
        self._rows = rows
        self._size = size
        self._start = start
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[_Work[Answer]]:
        n_before = 0
        try:
            while window := list(islice(self._rows, self._size)):
                yield self._start(window, n_before)
                n_before += len(window)
        except RowError as error:
            self.error = error.after(n_before)
        except Exception as error:  # noqa: BLE001  `stream` raises it after the answers
            self.error = error
