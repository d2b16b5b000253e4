"""
What Pillow says about metadata is not passed on: a hostile file brings thousands, unlike each.

Python keeps each warning that it has shown, so they fill memory too. What is wrong with an image
is told by the error that refuses it. The filters hold for the thread that reads an image, and only
while it reads; `warnings.catch_warnings` would change all threads.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

__all__ = ["quiet"]

_READING = threading.local()


_LOGGERS = ("PIL.Image", "PIL.ImageFile", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")
"""Those of them that say something."""


class _Here:
    """Stands for the pattern of module names in a filter of warnings."""

    def match(self, module: str) -> bool:
        return module.startswith("PIL.") and _is_reading()


def _is_reading() -> bool:
    return getattr(_READING, "depth", 0) > 0


def _is_told(_: logging.LogRecord) -> bool:
    return not _is_reading()


_FILTER = ("ignore", None, UserWarning, _Here(), 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what Pillow says, on this thread, until the block ends."""
    filters = cast("list[tuple[object, ...]]", warnings.filters)
    if not filters or filters[0] is not _FILTER:
        # Whoever sets filters puts his own before it.
        with suppress(ValueError):
            filters.remove(_FILTER)
        filters.insert(0, _FILTER)
    for name in _LOGGERS:
        # Adding it again changes nothing.
        logging.getLogger(name).addFilter(_is_told)
    _READING.depth = getattr(_READING, "depth", 0) + 1
    try:
        yield
    finally:
        _READING.depth -= 1
