"""An item that the server fails at is told from an outage by what else passes."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from operators import STOP
from operators.qdrant.sending import Refused, Sending, ServerFaultError

ATTEMPTS = 3
SERVER_FAULT = UnexpectedResponse(500, "why", b"panicked", httpx.Headers())
REFUSAL = UnexpectedResponse(400, "why", b"wrong", httpx.Headers())
TIME_OUT = ResponseHandlingException(httpx.ReadTimeout("slow"))


class Wall:
    """
    A server that fails as it is told: at some items, and at all requests of some numbers.

    sent  what was sent in each request so far
    """

    def __init__(
        self,
        bad: dict[int, Exception] | None = None,
        away: range = range(0),
        last: int | None = None,
    ) -> None:
        self.bad = bad or {}
        self.away = away
        self.last = last
        self.sent: list[tuple[int, ...]] = []
        self.naps: list[float] = []

    def answer(self, items: tuple[int, ...]) -> list[str]:
        number = len(self.sent)
        self.sent.append(items)
        if number == self.last:
            STOP.request()
        if number in self.away:
            raise SERVER_FAULT
        for item in items:
            if item in self.bad:
                raise self.bad[item]
        return [f"answer {item}" for item in items]

    def sending(self) -> Sending[int, str]:
        return Sending(
            self.answer,
            attempts=ATTEMPTS,
            nap=self.naps.append,
            noun="items",
            name="item {}".format,
        )


def outcomes(wall: Wall, *items: int) -> list[object]:
    return [type(one.error) if isinstance(one, Refused) else one for one in wall.sending()(items)]


def good(*items: int) -> list[object]:
    return [f"answer {item}" for item in items]


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 30), st.integers(0, 200))
def test_no_outage_whenever_it_comes_and_however_long_is_an_items_fault(
    n_items: int, start: int, length: int
) -> None:
    wall = Wall(away=range(start, start + length))
    sending = wall.sending()
    for first in (0, 100, 200):
        items = tuple(range(first, first + n_items))
        assert sending(items) == good(*items)


@settings(deadline=None)
@given(st.sets(st.integers(0, 15), max_size=6), st.integers(0, 40), st.integers(0, 60))
def test_what_the_server_fails_at_alone_is_refused_and_all_others_pass(
    bad: set[int], start: int, length: int
) -> None:
    wall = Wall(dict.fromkeys(bad, SERVER_FAULT), range(start, start + length))
    found = outcomes(wall, *range(16))
    assert [n for n, one in enumerate(found) if one is ServerFaultError] == sorted(bad)
    assert [one for n, one in enumerate(found) if n not in bad] == good(
        *(n for n in range(16) if n not in bad)
    )


def test_an_item_is_refused_only_after_all_its_tries_between_others_that_pass() -> None:
    wall = Wall({2: SERVER_FAULT})
    assert outcomes(wall, 1, 2, 3) == [*good(1), ServerFaultError, *good(3)]
    trial = wall.sent[-(2 * ATTEMPTS + 3) :]
    alone = [(2,)] * ATTEMPTS
    assert trial == [(3,), *alone, (3,), *alone, (3,)]
    assert wall.sent[:ATTEMPTS] == [(1, 2, 3)] * ATTEMPTS
    assert len(wall.naps) == sum(2 in items for items in wall.sent)


def test_an_item_alone_is_told_by_one_that_passed_in_an_earlier_request() -> None:
    wall = Wall({2: SERVER_FAULT})
    sending = wall.sending()
    assert sending((1,)) == good(1)
    [refused] = sending((2,))
    assert isinstance(refused, Refused)
    assert "failed at it 6 times, sent alone, and took others" in str(refused.error)
    assert "panicked" in str(refused.error)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("items", [(1,), (1, 2, 3, 4)])
def test_where_nothing_has_passed_it_is_an_outage_however_long(items: tuple[int, ...]) -> None:
    wall = Wall(dict.fromkeys(items, SERVER_FAULT), last=300)
    with pytest.raises(UnexpectedResponse):
        wall.sending()(items)
    assert len(wall.sent) == 301
    assert max(wall.naps) > 15


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STOP, "drain_s", 0.0)


@pytest.mark.usefixtures("_at_once")
def test_what_takes_too_long_is_sent_in_halves_and_never_given_up() -> None:
    wall = Wall({2: TIME_OUT}, last=200)
    with pytest.raises(ResponseHandlingException):
        wall.sending()((1, 2, 3))
    assert {(1,), (3,)} < set(wall.sent)
    assert wall.sent[-1] == (2,)


def test_refusals_are_told_from_failures_in_one_request() -> None:
    wall = Wall({1: REFUSAL, 4: SERVER_FAULT, 6: REFUSAL})
    refused = UnexpectedResponse
    assert outcomes(wall, *range(8)) == [
        *(*good(0), refused, *good(2, 3), ServerFaultError, *good(5), refused, *good(7)),
    ]


def test_an_item_that_recovers_in_its_trial_passes() -> None:
    wall = Wall({2: SERVER_FAULT})
    sending = wall.sending()

    def recover(seconds: float) -> None:
        wall.naps.append(seconds)
        if len(wall.naps) == 9:
            wall.bad.clear()

    sending._nap = recover
    assert sending((1, 2, 3)) == good(1, 2, 3)


def test_what_is_sent_again_to_see_whether_the_server_works_is_told() -> None:
    wall = Wall({2: SERVER_FAULT})
    again: list[int] = []
    sending = Sending[int, str](
        wall.answer, attempts=1, nap=wall.naps.append, noun="items", name=str, repeated=again.append
    )
    sending((1, 2))
    assert again == [1, 1, 1]


def test_an_item_alone_is_told_by_one_that_passed_in_another_life() -> None:
    wall = Wall({2: SERVER_FAULT}, range(5))
    lives = iter([None, None, 1])
    sending = Sending[int, str](
        wall.answer,
        attempts=2,
        nap=wall.naps.append,
        noun="items",
        name=str,
        another=lambda _: next(lives),
    )
    [refused] = sending((2,))
    assert isinstance(refused, Refused)
    assert wall.sent[6:] == [(1,), (2,), (2,), (1,), (2,), (2,), (1,)]


def test_the_log_says_what_is_tried_and_names_the_item(caplog: pytest.LogCaptureFixture) -> None:
    outcomes(Wall({2: SERVER_FAULT}), 1, 2, 3)
    told = caplog.messages
    assert "again in" in told[0]
    assert "(try 1, 3 items, item 1 and on)" in told[0]
    assert "fails at 3 items, item 1 and on" in told[2]
    assert "looking for the one at fault" in told[2]
    assert "fails at item 2, 6 tries of it alone" in told[-1]
