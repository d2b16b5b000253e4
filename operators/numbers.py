"""
Numbers that every place takes, or none: REST, gRPC, memory and files store the same.

JSON has numbers of any size. Python reads `1e400` as infinity, which no JSON can hold, and a
filter with it matches everything. An integer beyond 64 bits is kept by one place, rounded by
another and refused by a third. So both are refused where they come in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastembed_stream.values import SparseEmbedding
from operators.records import Vector

__all__ = ["check_numbers", "check_vector", "count_not_finite"]

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_LONGEST_PLACE = 100
_LONGEST_NUMBER = 24


def check_numbers(value: object, what: str = "Field") -> None:
    """
    Check that every place can store the numbers of a value that came from JSON.

    what    the value is a part of, for the message
    raises  ValueError that names the first one that is too large, or no number at all

    >>> check_numbers({"price": {"max": float("nan")}})
    Traceback (most recent call last):
    ValueError: Field 'price.max' is not JSON compliant: it is NaN.
    """
    if not _has_wrong(value):
        return
    where, number = next(one for one in _numbers(value) if _is_wrong(one[1]))
    place = where if len(where) <= _LONGEST_PLACE else f"{where[:_LONGEST_PLACE]}..."
    msg = f"{what} {place!r} {_told(number)}."
    raise ValueError(msg)


def check_vector(name: str, vector: Vector) -> None:
    """Raise ValueError for a vector with a number that is NaN or infinite."""
    n_bad, n = count_not_finite(vector)
    if n_bad:
        msg = f"Vector {name!r} has {n_bad} of {n} numbers that are NaN or infinite."
        raise ValueError(msg)


def count_not_finite(vector: Vector) -> tuple[int, int]:
    """
    Count the numbers of a vector that are NaN or infinite, and all of them.

    >>> count_not_finite(np.float32([1, np.nan, np.inf, 3e38]))
    (2, 4)
    """
    numbers = vector.values if isinstance(vector, SparseEmbedding) else vector
    return numbers.size - int(np.count_nonzero(np.isfinite(numbers))), numbers.size


def _has_wrong(value: object) -> bool:
    """Look at every number, as fast as Python can: each record comes by here."""
    levels: list[Any] = [(value,)]
    while levels:
        level = levels.pop()
        for one in level.values() if isinstance(level, dict) else level:
            kind = type(one)
            if kind is str:
                continue
            if kind is int:
                if not _LEAST <= one <= _MOST:
                    return True
            elif kind is float:
                if one - one != 0:  # of infinity and NaN alone
                    return True
            elif isinstance(one, dict | list | tuple):
                levels.append(one)
            elif _is_wrong(one):
                return True
    return False


def _numbers(value: object, where: str = "") -> Iterator[tuple[str, object]]:
    """Give every place and what stands there, in their order."""
    levels: list[tuple[str, Any]] = [(where, value)]
    while levels:
        at, one = levels.pop()
        if isinstance(one, dict):
            inner = [(f"{at}.{name}" if at else str(name), each) for name, each in one.items()]
        elif isinstance(one, list | tuple):
            inner = [(f"{at}[{n}]", each) for n, each in enumerate(one)]
        else:
            yield at, one
            continue
        levels += reversed(inner)


def _is_wrong(value: object) -> bool:
    if isinstance(value, float):
        return not np.isfinite(value)
    if isinstance(value, int):
        return not _LEAST <= value <= _MOST
    return False


def _told(number: object) -> str:
    if isinstance(number, float):
        what = "NaN" if np.isnan(number) else "beyond a 64-bit float, which ends at 1.8e308"
        return f"is not JSON compliant: it is {what}"
    n_digits = len(str(number).lstrip("-"))
    text = str(number) if n_digits < _LONGEST_NUMBER else f"an integer of {n_digits:,} digits"
    return f"is {text}; expected one from -2^63 to 2^63-1. Send a larger one as text"
