"""
What callers hand in as rows, and which of them is wrong.

Checking costs nanoseconds a row: types are looked at all together, and only rows that are not
plain text are looked at one by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from io import TextIOBase
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from fastembed_stream.errors import RowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.values import Pair

__all__ = ["all_rows", "checked_pairs", "checked_texts", "is_file", "is_text_file", "rows_in"]

Row = TypeVar("Row")

_ONE_ROW = (str, bytes, bytearray, memoryview, os.PathLike)
_MISSING = frozenset({"NAType", "NaTType"})
"""How pandas calls what is missing, beside the float that is not a number."""
_SHOWN = 40


def all_rows(rows: Iterable[Row]) -> list[Row]:
    """
    Give rows as a list, whatever holds them: each is read once, in its order.

    raises  RowError as `rows_in`

    >>> all_rows(text for text in ("a", "b"))
    ['a', 'b']
    """
    return rows if type(rows) is list else list(rows_in(rows))


def rows_in(rows: Iterable[Row]) -> Iterator[Row]:
    """
    Give rows one after another.

    rows    any iterable: a list, an iterator, an array, a column of a table, a view of a dict, a
            file of lines
    raises  RowError for what is one row, and for what would give something else than its rows

    >>> rows_in("hello")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fastembed_stream.errors.RowError: Rows: got one row alone, the str 'hello'; ...
    """
    if isinstance(rows, _ONE_ROW):
        msg = (
            f"got one row alone, the {_type(rows)} {_shown(rows)}; expected several. Put it in a "
            f"list: [{_shown(rows)}]."
        )
        raise RowError(msg)
    if (is_file(rows) and not is_text_file(rows)) or _is_image(rows):
        msg = f"got one row alone, of type {_type(rows)}; expected several. Put it in a list."
        raise RowError(msg)
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        msg = (
            f"got a {_type(rows)}, which gives the names of its columns. Hand in the column with "
            "the rows, such as table['text']."
        )
        raise RowError(msg)
    try:
        return iter(rows)
    except TypeError as error:
        msg = f"got {_described(rows)}; expected a list or another iterable of rows."
        raise RowError(msg) from error


def checked_texts(rows: Sequence[str]) -> list[str]:
    """
    Give texts as a list.

    raises  RowError with the position of the first that is no text

    >>> checked_texts(["a", None])
    Traceback (most recent call last):
    fastembed_stream.errors.RowError: Text 1: it is None; expected str.
    """
    listed = list(rows)
    if not (set(map(type, listed)) <= {str} and all(map(str.isascii, listed))):
        for position, row in enumerate(listed):
            if (fault := _fault(row)) is not None:
                reason = f"it {fault}"
                raise RowError(reason, position)
    return listed


def checked_pairs(rows: Sequence[Pair]) -> list[Pair]:
    """
    Give pairs as a list of tuples; a list or an array of two texts is a pair too.

    raises  RowError with the position of the first that is no pair of texts

    >>> checked_pairs([("a query", "a text"), ("a query", None)])
    Traceback (most recent call last):
    fastembed_stream.errors.RowError: Pair 1: its document is None; expected str.
    """
    if len(rows) == 2 and all(isinstance(row, str) for row in rows):  # noqa: PLR2004  a pair
        query, document = map(_shown, rows)
        msg = (
            f"got one pair alone, {query} and {document}; expected several. Put it in a list: "
            f"[({query}, {document})]."
        )
        raise RowError(msg)
    return [_pair(row, position) for position, row in enumerate(rows)]


def is_file(value: object) -> bool:
    """Tell what can be read from, such as an open file or BytesIO."""
    return callable(getattr(value, "read", None)) and not isinstance(value, type)


def is_text_file(value: object) -> bool:
    """Tell a file that gives text, or a wrapper of one."""
    return isinstance(value, TextIOBase) or (is_file(value) and hasattr(value, "encoding"))


def _pair(row: object, position: int) -> Pair:
    is_pair = not isinstance(row, (*_ONE_ROW, AbstractSet, Mapping)) and hasattr(row, "__len__")
    try:
        pair = tuple(cast("Iterable[str]", row)) if is_pair else ()
    except TypeError:
        pair = ()
    if len(pair) != 2:  # noqa: PLR2004  a pair
        msg = f"it is {_described(row)}; expected a tuple of two texts, a query and a document."
        raise RowError(msg, position, "Pair")
    for side, text in zip(("query", "document"), pair, strict=True):
        if not (type(text) is str and text.isascii()) and (fault := _fault(text)) is not None:
            reason = f"its {side} {fault}"
            raise RowError(reason, position, "Pair")
    return pair


def _fault(row: object) -> str | None:
    """Say what is wrong with a row that should be text; None where nothing is."""
    if not isinstance(row, str):
        return f"is {_described(row)}; expected str.{_hint(row)}"
    try:
        row.encode()
    except UnicodeEncodeError as error:
        return (
            f"has half a surrogate pair, {row[error.start]!a}, at character {error.start}, which "
            "is no text in Unicode. Read it again from its bytes with errors='replace'."
        )
    return None


def _hint(row: object) -> str:
    if isinstance(row, bytes | bytearray | memoryview):
        return " Decode it first, such as row.decode('utf-8')."
    if (isinstance(row, float | np.floating) and np.isnan(row)) or _type(row) in _MISSING:
        return " It stands for a missing value: leave the row out, or hand in ''."
    return ""


def _described(value: object) -> str:
    """Name a value and its type, None by itself."""
    return "None" if value is None else f"{_shown(value)} of type {_type(value)}"


def _type(value: object) -> str:
    return type(value).__name__


def _shown(value: Any) -> str:  # noqa: ANN401  anything may be handed in
    is_text = isinstance(value, str | bytes) and len(value) > _SHOWN
    shown = f"{value[:_SHOWN]!r}..." if is_text else repr(value)
    return shown if is_text or len(shown) <= 2 * _SHOWN else f"{shown[: 2 * _SHOWN]}..."


def _is_image(value: object) -> bool:
    """Tell an image of Pillow without importing it."""
    return any(each.__module__ == "PIL.Image" for each in type(value).__mro__)
