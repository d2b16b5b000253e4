"""What an open model offers: callables from rows to answers, for documents and for queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from typing_extensions import Self, override

from fastembed_stream.model import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastembed_stream.model import Model
    from fastembed_stream.values import Ints

__all__ = ["Counts", "Embedder", "OpenModel", "Reading"]

Row_contra = TypeVar("Row_contra", contravariant=True)
Answer = TypeVar("Answer")
# Whoever takes any family's open model takes OpenModel[Never, Never, object], see `Recipe.open`.
Document_contra = TypeVar("Document_contra", contravariant=True)
Query_contra = TypeVar("Query_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class Reading(Protocol):
    """Rows as a family reads them: whatever it packs from, and what each costs."""

    @property
    def lengths(self) -> Ints:
        """Tell the tokens of each row, int64[n_rows]."""

    @property
    def truncated_rows(self) -> int:
        """Count the rows that lost tokens to the limit."""

    @property
    def truncated_tokens(self) -> int:
        """Count the tokens that were lost."""


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
            rows=self.rows + len(reading.lengths),
            tokens=self.tokens + int(reading.lengths.sum()),
            truncated_rows=self.truncated_rows + reading.truncated_rows,
            truncated_tokens=self.truncated_tokens + reading.truncated_tokens,
        )


class Embedder(Protocol[Row_contra, Answer]):
    """A callable from rows to answers, in order: an `OnnxEmbedder` or a `PlainEmbedder`."""

    def __call__(self, rows: Iterable[Row_contra]) -> list[Answer]:
        """Answer all rows, in their order."""

    def stream(self, rows: Iterable[Row_contra], *, window: int) -> Iterator[Answer]:
        """Answer rows as they come, in their order, `window` of them planned together."""

    def count_tokens(self, rows: Iterable[Row_contra]) -> int:
        """Count the tokens that would be run."""

    @property
    def counts(self) -> Counts:
        """Tell what was read so far."""

    def warm_up(self) -> int:
        """Measure now what is not set, and give the token budget; 0 where there is none."""

    @property
    def place(self) -> str:
        """Tell where it runs, such as 'cpu, 2 lanes'."""

    def close(self) -> None:
        """End the lanes, and let go of the sessions."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenModel(Generic[Document_contra, Query_contra, Answer_co]):
    """
    A model that is open: itself a callable for documents, with one for queries beside.

    documents   answers for what is stored
    queries     answers for what is asked; the same callable where a model makes no difference
    max_tokens  most tokens of one row; None where there is no limit
    model       the row that it was opened from
    reopen      opens it again, also in another process: so it can be pickled

    It is a context manager, which closes it.
    """

    documents: Embedder[Document_contra, Answer_co]
    queries: Embedder[Query_contra, Answer_co]
    max_tokens: int | None = None
    model: Model | None = None
    reopen: Callable[[], OpenModel[Document_contra, Query_contra, Answer_co]] | None = None

    def __call__(self, rows: Iterable[Document_contra]) -> list[Answer_co]:
        """
        Answer documents, in their order.

        rows    any iterable, read once
        raises  RowError for the first that cannot be read, by its position
        """
        return self.documents(rows)

    def stream(self, rows: Iterable[Document_contra], *, window: int) -> Iterator[Answer_co]:
        """Answer documents as they come, in their order, `window` of them planned together."""
        return self.documents.stream(rows, window=window)

    def count_tokens(self, rows: Iterable[Document_contra]) -> int:
        """Count the tokens of documents that would be run."""
        return self.documents.count_tokens(rows)

    @property
    def counts(self) -> Counts:
        """Tell what was read so far as documents."""
        return self.documents.counts

    def warm_up(self) -> int:
        """Measure now what is not set, and give the token budget; 0 where there is none."""
        return self.documents.warm_up()

    def close(self) -> None:
        """End the lanes, and let go of the sessions, which stay open for others that hold them."""
        self.documents.close()
        self.queries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @override
    def __repr__(self) -> str:
        what = "a model" if self.model is None else summary(self.model)
        return f"<OpenModel {what}, {self.documents.place}>"

    @override
    def __reduce__(
        self,
    ) -> tuple[Callable[[], OpenModel[Document_contra, Query_contra, Answer_co]], tuple[()]]:
        if self.reopen is None:
            msg = "This OpenModel was not made by `open_model`, so it cannot be pickled."
            raise TypeError(msg)
        return self.reopen, ()
