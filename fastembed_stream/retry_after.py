"""How long a server asks to be left alone: `Retry-After`, read one way by everything that asks."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST_S", "seconds_of"]

LONGEST_S = 300.0
"""A server that asks for more is asked again after this: waiting for a day helps nobody."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
"""ASCII alone: for Python digits of other scripts are digits too, some of which it cannot read."""
_LONGEST_TEXT = 64


def seconds_of(
    text: str | None, *, shortest_s: float = 0.0, now: datetime | None = None
) -> float | None:
    """
    Read a Retry-After header: a number of seconds, fractions too, or a date.

    shortest_s  what is given where the server asks for less: who tries for ever makes no storm
    now         the time that a date is compared with; None takes the clock
    returns     seconds between `shortest_s` and `LONGEST_S`; None where there is no such header, or
                it says nothing that can be read

    >>> seconds_of("120"), seconds_of("86400"), seconds_of("-5"), seconds_of("soon")
    (120.0, 300.0, None, None)
    """
    asked = _asked(text.strip(), now) if text is not None else None
    return None if asked is None else min(max(asked, shortest_s), LONGEST_S)


def _asked(text: str, now: datetime | None) -> float | None:
    if len(text) > _LONGEST_TEXT or not text.isascii():
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        due = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    # A date with the zone "-0000", or with none, is read without one: HTTP has GMT alone.
    due = due if due.tzinfo is not None else due.replace(tzinfo=timezone.utc)
    return (due - (now or datetime.now(timezone.utc))).total_seconds()
