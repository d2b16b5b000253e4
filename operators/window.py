"""
Records gathered into batches once, for all stages.

A window closes when it is full (by records or by tokens) or when its *oldest* record has waited
long enough. Low traffic: the age bound gives low latency. High traffic: windows are full and
inference is dense.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import StatefulBatchLogic
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.clocks import Clock, steady, wall
from operators.metrics import WINDOW_RECORDS
from operators.records import Batch, Batches, Record

__all__ = ["WindowLimits", "WindowLogic", "estimated_tokens", "window"]

_CHARS_PER_TOKEN = 4
_SPECIAL_TOKENS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """
    When a window closes, whichever comes first.

    max_records  records of one window
    max_tokens   tokens of one window, as weighed; a heavier record stands alone
    max_age_s    seconds that the oldest record may wait
    """

    max_records: int = 256
    max_tokens: int = 32_768
    max_age_s: float = 0.2

    def __post_init__(self) -> None:
        for name in ("max_records", "max_tokens", "max_age_s"):
            if getattr(self, name) <= 0:
                msg = f"WindowLimits({name}={getattr(self, name)}): expected more than 0."
                raise SettingError(msg)


# typing's own name: on CPython 3.10 one of collections.abc reads as a class, where Bytewax trips.
Weigh: TypeAlias = typing.Callable[[Record], int]


def estimated_tokens(record: Record, *, most: int | None = None) -> int:
    """
    Guess a record's tokens by its texts: four characters each, and two special ones.

    most  tokens that the model reads of one text; what it cuts off weighs nothing
    """
    n_chars = sum(len(value) for value in record.fields.values() if isinstance(value, str))
    tokens = n_chars // _CHARS_PER_TOKEN + _SPECIAL_TOKENS
    return tokens if most is None else min(tokens, most)


@operator
def window(
    step_id: str,
    up: Batches,
    *,
    limits: WindowLimits = WindowLimits(),
    weigh: Weigh = estimated_tokens,
) -> Batches:
    """
    Gather records into batches by count, tokens and age of the oldest.

    Delivery: records that wait are this step's state. A crash repeats them and loses none. After
    a resume they leave at once, so that a record never waits behind a younger one elsewhere.
    """

    def build(waiting: tuple[Record, ...] | None) -> WindowLogic:
        return WindowLogic(limits, weigh, waiting or (), wall=wall)

    return op.stateful_batch("gather", up, build)


class WindowLogic(StatefulBatchLogic[Batch, Batch, tuple[Record, ...]]):
    """
    The state of one worker's window: who waits, how heavy, and since when.

    clock  by which a window grows old; it never goes back
    wall   by which Bytewax wakes it; None where that is the same clock
    """

    def __init__(
        self,
        limits: WindowLimits,
        weigh: Weigh = estimated_tokens,
        resumed: tuple[Record, ...] = (),
        clock: Clock = steady,
        wall: Clock | None = None,
    ) -> None:
        self._limits = limits
        self._weigh = weigh
        self._clock = clock
        self._wall = wall or clock
        self._waiting = list(resumed)
        self._weight = sum(map(weigh, resumed))
        self._due: datetime | None = clock() if resumed else None

    @override
    def on_batch(self, values: list[Batch]) -> tuple[list[Batch], bool]:
        closed: list[Batch] = []
        for batch in values:
            if batch.failures:  # nothing is lost here, even what was not split off before
                closed.append(Batch(records=(), failures=batch.failures))
            for record in batch.records:
                weight = self._weigh(record)
                if self._waiting and self._weight + weight > self._limits.max_tokens:
                    closed.append(self._close())
                self._add(record, weight)
                if len(self._waiting) >= self._limits.max_records:
                    closed.append(self._close())
        return closed, not self._waiting

    @override
    def on_notify(self) -> tuple[list[Batch], bool]:
        # A call may be stale: Bytewax keeps the time of a window that has closed since. Or the
        # clock was set forth, and the window is not as old as that.
        if self._due is None or self._clock() < self._due:
            return [], not self._waiting
        return [self._close()], True

    @override
    def on_eof(self) -> tuple[list[Batch], bool]:
        return ([self._close()] if self._waiting else []), True

    @override
    def notify_at(self) -> datetime | None:
        return None if self._due is None else self._wall() + (self._due - self._clock())

    @override
    def snapshot(self) -> tuple[Record, ...]:
        return tuple(self._waiting)

    def _add(self, record: Record, weight: int) -> None:
        if not self._waiting:
            self._due = self._clock() + timedelta(seconds=self._limits.max_age_s)
        self._waiting.append(record)
        self._weight += weight

    def _close(self) -> Batch:
        batch = Batch(records=tuple(self._waiting))
        self._waiting.clear()
        self._weight = 0
        self._due = None
        WINDOW_RECORDS.observe(len(batch.records))
        return batch
