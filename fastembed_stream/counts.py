"""Whole numbers that a user gives: threads, windows, limits."""

from __future__ import annotations

import operator

__all__ = ["is_count"]


def is_count(value: object, *, least: int = 1) -> bool:
    """
    Tell whether a value is a whole number of at least so much; numpy's are, True is not.

    >>> [is_count(value) for value in (1, 0, "2", 2.0, None, True)]
    [True, False, False, False, False, False]
    """
    try:
        return not isinstance(value, bool) and operator.index(value) >= least  # type: ignore[arg-type]  # what has no index is no number
    except TypeError:
        return False
