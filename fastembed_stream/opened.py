"""A model on its way to be opened, and what it is then: callables for documents and queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from typing_extensions import Self, override

from fastembed_stream.embedder import Counts
from fastembed_stream.runtime import Runtime
from fastembed_stream.session import Session
from fastembed_stream.shared_sessions import open_session
from fastembed_stream.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from fastembed_stream.model import Model

__all__ = ["Embeds", "OpenModel", "Opening", "summary"]

Row_contra = TypeVar("Row_contra", contravariant=True)
Document = TypeVar("Document")
Query = TypeVar("Query")
Answer = TypeVar("Answer")


class Embeds(Protocol[Row_contra, Answer]):
    """A callable from rows to answers, in order: an `Embedder` or a `Computed`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """
    A model whose files are here, and how it is to run: what a family opens itself from.

    slot  number of the worker: it takes one of `runtime.device_ids`, round robin; None spreads
          the work over all of them
    """

    model: Model
    files: Path
    runtime: Runtime
    max_tokens: int | None = None
    slot: int | None = None

    def tokens(self, *, reserved: int = 0, added: int = 0) -> Tokens:
        """
        Load the tokenizer.

        reserved  tokens of its limit that are kept for the family
        added     tokens that the family adds beyond the limit
        """
        return Tokens.open(
            self.files, self.model, max_tokens=self.max_tokens, reserved=reserved, added=added
        )

    def sessions(self) -> list[Session]:
        """Open the graph on each device."""
        devices: tuple[int | None, ...] = self.runtime.device_ids or (None,)
        if self.slot is not None:
            devices = (devices[self.slot % len(devices)],)
        graph = self.files / self.model.model_file
        return [open_session(graph, self.runtime, device_id=device) for device in devices]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenModel(Generic[Document, Query, Answer]):
    """
    A model that is open: itself a callable for documents, with one for queries beside.

    documents   answers for what is stored
    queries     answers for what is asked; the same callable where a model makes no difference
    max_tokens  most tokens of one row; None where there is no limit
    model       the row that it was opened from
    reopen      opens it again, also in another process: so it can be pickled

    It is a context manager, which closes it.
    """

    documents: Embeds[Document, Answer]
    queries: Embeds[Query, Answer]
    max_tokens: int | None = None
    model: Model | None = None
    reopen: Callable[[], OpenModel[Document, Query, Answer]] | None = None

    def __call__(self, rows: Iterable[Document]) -> list[Answer]:
        """
        Answer documents, in their order.

        rows    any iterable, read once
        raises  RowError for the first that cannot be read, by its position
        """
        return self.documents(rows)

    def stream(self, rows: Iterable[Document], *, window: int) -> Iterator[Answer]:
        """Answer documents as they come, in their order, `window` of them planned together."""
        return self.documents.stream(rows, window=window)

    def count_tokens(self, rows: Iterable[Document]) -> int:
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
    def __reduce__(self) -> tuple[Callable[[], OpenModel[Document, Query, Answer]], tuple[()]]:
        if self.reopen is None:
            msg = "This OpenModel was not made by `open_model`, so it cannot be pickled."
            raise TypeError(msg)
        return self.reopen, ()


def summary(model: Model) -> str:
    """Say what a model is: its name, its kind and family, and the length of its vectors."""
    family = f"{model.kind.name} ({type(model.recipe).__name__})"
    return f"{model.name}: {family}" + (f", {model.dim} dimensions" if model.dim else "")
