"""Rows to answers where no graph runs: tables, counts of words, look-ups."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from typing_extensions import override

from fastembed_stream.counts import is_count
from fastembed_stream.embedder import Counts, Reading
from fastembed_stream.errors import RowError, SettingError
from fastembed_stream.rows import all_rows, rows_in
from fastembed_stream.threads import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["PlainEmbedder", "PlainFamily"]

Read = TypeVar("Read", bound=Reading)
Row = TypeVar("Row")
Answer = TypeVar("Answer")
Row_contra = TypeVar("Row_contra", contravariant=True)


class PlainFamily(Protocol[Row_contra, Read, Answer]):
    """What a family without a graph knows: how to read rows, and what follows from them."""

    def read(self, rows: Sequence[Row_contra]) -> Read:
        """Turn rows into what `answers` takes, and count their tokens."""

    def answers(self, reading: Read) -> list[Answer]:
        """Give one answer for each row, in order."""


class PlainEmbedder(Generic[Row, Answer]):
    """
    A callable from rows to answers, in order, on the thread of its caller.

    It has the methods of `OnnxEmbedder`, so that whoever calls need not know which it is.
    """

    def __init__(self, family: PlainFamily[Row, Any, Answer]) -> None:
        self.family = family
        self._counts = Counts()
        self._counting = ForkSafeLock()

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        """
        Answer all rows, in their order.

        raises  RowError for the first that cannot be read, by its position
        """
        listed = all_rows(rows)
        if not listed:
            return []
        reading = self.family.read(listed)
        with self._counting:
            self._counts = self._counts.plus(reading)
        return self.family.answers(reading)

    def stream(self, rows: Iterable[Row], *, window: int) -> Iterator[Answer]:
        """Answer rows as they come, `window` at a time."""
        if not is_count(window):
            msg = f"A window must hold at least 1 row; got {window!r}."
            raise SettingError(msg)
        source, n_before = rows_in(rows), 0
        while chunk := list(islice(source, window)):
            try:
                answers = self(chunk)
            except RowError as error:
                raise error.after(n_before) from error.__cause__
            yield from answers
            n_before += len(chunk)

    def count_tokens(self, rows: Iterable[Row]) -> int:
        """Count the tokens that would be used."""
        listed = all_rows(rows)
        return int(self.family.read(listed).lengths.sum()) if listed else 0

    @property
    def counts(self) -> Counts:
        """Tell what was read so far."""
        return self._counts

    @property
    def place(self) -> str:
        """Tell where it runs."""
        return "no graph, on the caller's thread"

    def warm_up(self) -> int:
        """Answer 0: there is no budget to measure."""
        return 0

    def close(self) -> None:
        """Nothing is open."""

    @override
    def __repr__(self) -> str:
        return f"<PlainEmbedder {type(self.family).__name__}, {self.place}>"

    @override
    def __reduce__(self) -> NoReturn:
        msg = "A PlainEmbedder holds a lock; pickle the OpenModel that it belongs to."
        raise TypeError(msg)
