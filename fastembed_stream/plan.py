"""
Which rows run together: sorted by length, packed by token budget.

Padding is the only waste of a transformer that a caller can avoid. Rows of like length share a
group, and a group is bounded by what it costs (rows times longest), so memory is bounded too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.errors import SettingError

if TYPE_CHECKING:
    from fastembed_stream.values import Ints

__all__ = ["pack"]


def pack(lengths: Ints, budget: int) -> list[Ints]:
    """
    Split rows into groups of like length, each within the budget once padded.

    Every row is in one group; a row longer than the budget stands alone. Groups come longest
    first, so that concurrent lanes end together.

    lengths  int64[n_rows], tokens of each row
    budget   most tokens of one group: rows times the longest of them
    returns  arrays of row numbers, int64[n_rows_of_group]

    >>> [group.tolist() for group in pack(np.array([2, 9, 3, 2]), budget=8)]
    [[1], [2, 0], [3]]
    """
    if budget < 1:
        msg = f"A token budget must be at least 1; got {budget}."
        raise SettingError(msg)
    order = np.argsort(-lengths, kind="stable")
    groups: list[Ints] = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        end = start + max(budget // longest, 1)
        groups.append(order[start:end])
        start = end
    return groups
