"""Hits as tables; what stands in them is text, and brackets in it are no styles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from operators import Hit

__all__ = ["listed", "side_by_side"]


def listed(question: str, hits: Sequence[Hit]) -> Table:
    """Show what was found for one question."""
    title = Text(question, style="table.title")
    table = Table("score", "name", "text", title=title, title_justify="left", expand=True)
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", _name(hit), _first_line(hit))
    return table


def side_by_side(question: str, found: Mapping[str, Sequence[Hit]]) -> Table:
    """Show what each of several ways found for one question, a column each."""
    title = Text(question, style="table.title")
    table = Table("", *found, title=title, title_justify="left", expand=True)
    for rank in range(max(map(len, found.values()), default=0)):
        names = [_name(hits[rank]) if rank < len(hits) else "" for hits in found.values()]
        table.add_row(str(rank + 1), *names)
    return table


def _name(hit: Hit) -> str:
    return escape(str(hit.payload.get("name", "")))


def _first_line(hit: Hit) -> str:
    return escape(str(hit.payload.get("text", "")).strip().partition("\n")[0])
