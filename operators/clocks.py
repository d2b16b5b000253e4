"""A clock that never goes back, and the wall clock, by which Bytewax wakes its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

__all__ = ["Clock", "steady", "wall"]

Clock: TypeAlias = Callable[[], datetime]


def wall() -> datetime:
    """Give the time of day, which may be set back or forth at any moment."""
    return datetime.now(timezone.utc)


_STARTED = wall()
_STARTED_S = time.monotonic()


def steady() -> datetime:
    """Give a time that only goes forth: for how long something takes, not for when it is."""
    return _STARTED + timedelta(seconds=time.monotonic() - _STARTED_S)
