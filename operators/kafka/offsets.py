"""Where reading goes on, and in which log that is."""

from __future__ import annotations

from typing_extensions import Self, override

__all__ = ["Offset", "log_named"]


class Offset(int):
    """
    An offset that knows its log: one of a topic made again is not the same place.

    It is what the recovery store keeps of a partition. Stores of older versions have plain
    integers there, which name no log.

    log  id of the topic, empty where the brokers have none
    """

    log: str

    def __new__(cls, offset: int, log: str = "") -> Self:
        """Make one, of a log if it is known."""
        made = super().__new__(cls, offset)
        made.log = log
        return made

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        return type(self), (int(self), self.log)


def log_named(offset: int | None) -> str:
    """Name the log that an offset is of; '' where it does not say."""
    return offset.log if isinstance(offset, Offset) else ""
