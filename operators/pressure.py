"""
How a worker's source learns that its stages are full.

Bytewax holds a source back only between epochs. A step that blocks instead keeps its whole worker
from timers, signals and commits for as long. So stages say when they have enough, and the source
of the same worker then gives nothing until they have room.
"""

from __future__ import annotations

import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["Fillable", "reset", "saturated", "watch"]


class Fillable(Protocol):
    """A step's state that can have enough."""

    @property
    def full(self) -> bool:
        """Tell whether more should wait."""


# By thread number, since a worker is a thread whose locals Bytewax wipes. Weak, since a step's
# state ends with its flow.
_STEPS: dict[int, WeakSet[Fillable]] = {}


def watch(step: Fillable) -> None:
    """Let this worker's source see a step."""
    _STEPS.setdefault(threading.get_ident(), WeakSet()).add(step)


def saturated() -> bool:
    """Tell whether any step of this worker is full."""
    return any(step.full for step in _STEPS.get(threading.get_ident(), ()))


def reset() -> None:
    """Forget the steps of an earlier flow on this thread."""
    _STEPS.pop(threading.get_ident(), None)
