"""How much of files is read at once, and how a source waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from bytewax.inputs import StatefulSourcePartition
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.pressure import saturated
from operators.records import Message
from operators.shutdown import STOP

__all__ = ["Budget", "Pages", "ReadingPartition"]

_IDLE = timedelta(milliseconds=5)

Place = TypeVar("Place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """
    How much of a file or folder is read at once; a larger message is read alone.

    max_batch          messages handed on at once
    max_batch_bytes    bytes of their values
    max_epoch_records  messages in one epoch
    max_epoch_bytes    bytes in one epoch: bounds memory
    """

    max_batch: int = 256
    max_batch_bytes: int = 4 << 20
    max_epoch_records: int = 20_000
    max_epoch_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_batch_bytes", "max_epoch_records", "max_epoch_bytes"):
            if getattr(self, name) < 1:
                msg = f"Pages({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)


class Budget:
    """What is left of a number of records and of bytes."""

    def __init__(self, n_records: int, n_bytes: int) -> None:
        self._records = n_records
        self._bytes = n_bytes

    @property
    def spent(self) -> bool:
        """Tell whether nothing more may be taken."""
        return self._records <= 0 or self._bytes <= 0

    def take(self, value: bytes) -> None:
        """Count one record."""
        self._records -= 1
        self._bytes -= len(value)


class ReadingPartition(StatefulSourcePartition[Message, Place]):
    """A source partition that reads until its budget is spent, its stages are full, or it ends."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._epoch = Budget(pages.max_epoch_records, pages.max_epoch_bytes)
        self._idle = False

    def read(self) -> Message | None:
        """Give the next message; None at the end."""
        raise NotImplementedError

    def waits(self) -> bool:
        """Tell whether there may be more in a moment, after `read` gave nothing."""
        return False

    def place(self) -> Place:
        """Give where the next message stands."""
        raise NotImplementedError

    @override
    def next_batch(self) -> list[Message]:
        if STOP.requested:
            raise StopIteration
        # Backpressure of Bytewax' own holds only between epochs.
        self._idle = self._epoch.spent or saturated()
        if self._idle:
            return []
        batch = Budget(self._pages.max_batch, self._pages.max_batch_bytes)
        messages: list[Message] = []
        while not (batch.spent or self._epoch.spent):
            message = self.read()
            if message is None:
                break
            messages.append(message)
            for budget in (batch, self._epoch):
                budget.take(message.value or b"")
        if not messages and not self.waits():
            raise StopIteration
        self._idle = not messages
        return messages

    @override
    def next_awake(self) -> datetime | None:
        # Never far ahead: an epoch stays open until its source is called again.
        return datetime.now(timezone.utc) + _IDLE if self._idle else None

    @override
    def snapshot(self) -> Place:
        self._epoch = Budget(self._pages.max_epoch_records, self._pages.max_epoch_bytes)
        return self.place()
