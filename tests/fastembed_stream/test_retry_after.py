"""A server's wish to be left alone is read one way, whatever it writes."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from fastembed_stream.retry_after import seconds_of

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
LONGEST_S = 300.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("86400", LONGEST_S),
        ("9" * 60, LONGEST_S),
        ("Thu, 01 Jan 2026 12:00:09 GMT", 9.0),
        ("Thu Jan  1 12:00:09 2026", 9.0),
        ("Thursday, 01-Jan-26 12:00:09 GMT", 9.0),
        ("Thu, 01 Jan 2026 13:00:09 +0100", 9.0),
        ("Thu, 01 Jan 2026 12:00:09 -0000", 9.0),
        ("Fri, 02 Jan 2026 12:00:00 GMT", LONGEST_S),
        ("Wed, 31 Dec 2025 12:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2300", LONGEST_S),
    ],
)
def test_seconds_fractions_and_dates_are_read_and_bounded(text: str, seconds: float) -> None:
    assert seconds_of(text, now=NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "-1", "+5", "1e3", "1_0", "0x10", "inf", "nan", "soon", ",", "5, 7", "\x00"),
        *("²", "٣", "៣", "３", "Thu, ٠١ Jan 2026 12:00:09 GMT"),
        *("Thu, 01 Jan 99999 12:00:09 GMT", "Thu, 99 Jan 2026 12:00:09 GMT"),
        *("Thu, 01 Jan 2026 12:00:09 +9999", "Thu, 01 Jan 2026 12:00:09 +99999999999"),
        *("9" * 100_000, "Thu, " * 10_000),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_cannot_be_read_asks_for_nothing(text: str | None) -> None:
    assert seconds_of(text, now=NOW) is None
    assert seconds_of(text, shortest_s=0.5, now=NOW) is None


@pytest.mark.parametrize("text", ["0", "0.1", "Wed, 31 Dec 2025 12:00:00 GMT"])
def test_who_tries_for_ever_waits_a_moment_at_least(text: str) -> None:
    assert seconds_of(text, shortest_s=0.5, now=NOW) == 0.5
