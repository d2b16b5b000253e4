"""Hits as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from operators import Hit

__all__ = ["listed", "side_by_side"]


def listed(question: str, hits: Sequence[Hit]) -> Table:
    """Show what was found for one question."""
    table = Table("score", "name", "text", title=question, title_justify="left", expand=True)
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", _name(hit), _first_line(hit))
    return table


def side_by_side(question: str, found: Mapping[str, Sequence[Hit]]) -> Table:
    """Show what each of several ways found for one question, a column each."""
    table = Table("", *found, title=question, title_justify="left", expand=True)
    for rank in range(max(map(len, found.values()), default=0)):
        names = [_name(hits[rank]) if rank < len(hits) else "" for hits in found.values()]
        table.add_row(str(rank + 1), *names)
    return table


def _name(hit: Hit) -> str:
    return str(hit.payload.get("name", ""))


def _first_line(hit: Hit) -> str:
    return str(hit.payload.get("text", "")).strip().partition("\n")[0]
