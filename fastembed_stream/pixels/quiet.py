"""
Pillow's warnings about metadata are not passed on: a hostile file brings thousands, unlike each.

Python keeps each text that it has shown, so they fill memory too. The filter holds for the thread
that reads an image, and only while it reads; `warnings.catch_warnings` would change all threads.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

__all__ = ["quiet"]

_READING = threading.local()


class _Here:
    """Stands for the pattern of module names in a filter of warnings."""

    def match(self, module: str) -> bool:
        return module.startswith("PIL.") and getattr(_READING, "depth", 0) > 0


_FILTER = ("ignore", None, UserWarning, _Here(), 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what Pillow says about metadata, on this thread, until the block ends."""
    filters = cast("list[tuple[object, ...]]", warnings.filters)
    if not filters or filters[0] is not _FILTER:
        # Whoever sets filters puts his own before it.
        with suppress(ValueError):
            filters.remove(_FILTER)
        filters.insert(0, _FILTER)
    _READING.depth = getattr(_READING, "depth", 0) + 1
    try:
        yield
    finally:
        _READING.depth -= 1
