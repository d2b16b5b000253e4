"""Long work, watched: how many texts and tokens were read, and how many a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from fastembed_stream.embedder import Counts

__all__ = ["Counted", "watched"]

Answer = TypeVar("Answer")


class Counted(Protocol):
    """What counts the tokens that it reads: an open model, or one of fastembed's classes."""

    @property
    def counts(self) -> Counts:
        """Tell what was read so far."""


def watched(
    answers: Iterable[Answer],
    of: Counted,
    *,
    total: int | None = None,
    console: Console | None = None,
) -> Iterator[Answer]:
    """
    Give answers as they come, and show on stderr how far they are and how fast they come.

    answers  what a model's method gives, such as `model.embed(texts)`
    of       the model, or its `queries`: whoever counts the tokens
    total    how many answers there will be; None where nobody knows
    console  where it is shown, instead of stderr

    >>> from fastembed_stream import SPARSE_TEXT, open_model
    >>> bm25 = open_model("Qdrant/bm25", SPARSE_TEXT)
    >>> len(list(watched(bm25.stream(["a text", "another"], window=1), bm25, total=2)))
    2
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    before = of.counts.tokens
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows, {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as shown:
        task = shown.add_task("", total=total, speed="")
        for answer in answers:
            yield answer
            elapsed = shown.tasks[0].elapsed or 0.0
            done = shown.tasks[0].completed + 1
            shown.update(task, advance=1, speed=_speed(done, of.counts.tokens - before, elapsed))


def _speed(n_rows: float, n_tokens: int, seconds: float) -> str:
    """
    Tell both in a second.

    >>> _speed(100, 6_000, 0.5)
    '200 rows/s, 12,000 tokens/s'
    """
    if seconds <= 0:
        return ""
    return f"{n_rows / seconds:,.0f} rows/s, {n_tokens / seconds:,.0f} tokens/s"
