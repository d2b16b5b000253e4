"""
Several points or questions in one request: waited for through outages, and halved where one of
them keeps the others back.

An outage and an item that the server fails at look alike at first: 500. They are told apart by
what else passes. Where nothing passes it is an outage, however long. An item is at fault only
where it fails alone, try after try, and others pass before, between and after these tries.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from operators.metrics import RETRIES
from operators.qdrant.errors import (
    is_refusal,
    is_server_fault,
    is_too_large,
    is_transient,
    is_worth_halving,
    retry_after_s,
)
from operators.records import Message
from operators.shutdown import STOP

__all__ = ["Refused", "Sending", "ServerFaultError", "patient", "place_of"]

_LOG = logging.getLogger(__name__)

X = TypeVar("X")
Y = TypeVar("Y")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_MOST_DOUBLINGS = 10
_ROUNDS = 2
"""So often an item fails alone, all its tries, between two requests that pass."""
_LONGEST_KEY = 60


class ServerFaultError(RuntimeError):
    """What the server fails at each time, though it takes others of the same moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """
    What became of an item that never passes.

    error  what the server says of it, sent alone
    """

    error: Exception


@dataclass(frozen=True, slots=True)
class _Suspect:
    """An item that failed alone, which an outage could do as well."""

    error: Exception


@dataclass(slots=True)
class _Pace:
    """How long a server is left alone: as it says, else longer with each failure in a row."""

    n_failed: int = 0

    def after(self, error: BaseException) -> float:
        asked = retry_after_s(error)
        if asked is not None:
            return asked
        longest = _FIRST_WAIT_S * 2 ** min(self.n_failed, _MOST_DOUBLINGS)
        return random.uniform(0, min(longest, _LONGEST_WAIT_S))  # noqa: S311  no secret


class Sending(Generic[X, Y]):
    """
    Send items in requests until each has passed or never will.

    send      sends some in one request and gives an answer for each
    attempts  tries of a request at which the server fails, before it is halved
    nap       sleeps between tries
    noun      what the items are, for the log
    name      tells which one an item is, for the log
    repeated  is told of each item that had passed and was sent again
    another   gives an item that passed before this object was made, and is none of some

    Items must be such that sending one again changes nothing: one that has passed is sent again to
    find out whether the server works.
    """

    def __init__(
        self,
        send: Callable[[tuple[X, ...]], Sequence[Y]],
        *,
        attempts: int,
        nap: Callable[[float], None],
        noun: str,
        name: Callable[[X], str],
        repeated: Callable[[X], None] = lambda _: None,
        another: Callable[[Sequence[X]], X | None] = lambda _: None,
    ) -> None:
        self._send = send
        self._attempts = attempts
        self._nap = nap
        self._noun = noun
        self._name = name
        self._repeated = repeated
        self._another = another
        self._passed: X | None = None

    def __call__(self, items: tuple[X, ...]) -> list[Y | Refused]:
        """
        Send items, and give what became of each, in their order.

        raises  what the server says of all requests, as with a wrong key; what it said last where
                the time to drain is over
        """
        pace = _Pace()
        outcomes = self._sent(items, self._attempts, pace)
        # Where nothing has ever passed, all may be at fault or none: an outage, until one passes.
        while suspects := _suspects(items, outcomes):
            if self._knows_another(suspects):
                break
            outcomes = self._sent(items, self._attempts, pace)
        return [
            self._judged(item, outcome, pace) if isinstance(outcome, _Suspect) else outcome
            for item, outcome in zip(items, outcomes, strict=True)
        ]

    def _sent(
        self, items: tuple[X, ...], attempts: int, pace: _Pace
    ) -> list[Y | Refused | _Suspect]:
        try:
            return list(self._tried(items, attempts, pace))
        except Exception as error:
            if is_refusal(error) or is_too_large(error):
                if len(items) == 1:
                    return [Refused(error=error)]
            elif is_worth_halving(error) and not STOP.overdue:
                self._pause(items, error, attempts, pace)
                if len(items) == 1:
                    return [_Suspect(error)]
            else:
                raise
        half = len(items) // 2
        return self._sent(items[:half], 1, pace) + self._sent(items[half:], 1, pace)

    def _tried(self, items: tuple[X, ...], attempts: int | None, pace: _Pace) -> Sequence[Y]:
        """Send one request until it passes; without `attempts` however long that takes."""
        n_failed = 0

        def enough(state: RetryCallState) -> bool:
            nonlocal n_failed
            n_failed = n_failed + 1 if is_worth_halving(_error_of(state)) else 0
            return STOP.overdue or (attempts is not None and n_failed >= attempts)

        def before_sleep(state: RetryCallState) -> None:
            pace.n_failed += 1
            _log_retry(self._told(items), state)

        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            wait=lambda state: pace.after(_error_of(state)),
            stop=enough,
            sleep=self._nap,
            before_sleep=before_sleep,
            reraise=True,
        )
        answers = retrying(self._send, items)
        pace.n_failed = 0
        self._passed = items[-1]
        return answers

    def _pause(self, items: tuple[X, ...], error: Exception, attempts: int, pace: _Pace) -> None:
        """Leave the server alone before the halves are sent, or others."""
        if attempts > 1 and len(items) > 1:
            # What follows are other requests. In an outage their failures make waits long again.
            pace.n_failed = 0
        wait_s = pace.after(error)
        pace.n_failed += 1
        what = "looking for the one at fault" if len(items) > 1 else "others first"
        _LOG.warning("Qdrant fails at %s: %s; %s in %.1f s", self._told(items), error, what, wait_s)
        RETRIES.labels("qdrant").inc()
        self._nap(wait_s)

    def _judged(self, item: X, suspect: _Suspect, pace: _Pace) -> Y | Refused:
        """Send an item alone, between others that pass, until it passes or is known to be bad."""
        n_bad = 0
        while True:
            self._repeat_another(pace)  # in an outage it ends here
            if n_bad >= _ROUNDS:
                return Refused(error=self._at_fault(item, suspect.error))
            [outcome] = self._sent((item,), self._attempts, pace)
            if not isinstance(outcome, _Suspect):
                return outcome
            suspect = outcome
            # What takes too long, or breaks the connection, may have been written all the same.
            n_bad = n_bad + 1 if is_server_fault(suspect.error) else 0

    def _knows_another(self, suspects: Sequence[X]) -> bool:
        """Tell whether there is something that has passed, to be sent once more."""
        if self._passed is None:
            try:
                self._passed = self._another(suspects)
            except Exception as error:
                if not is_transient(error):
                    raise
        return self._passed is not None

    def _repeat_another(self, pace: _Pace) -> None:
        """Send once more what has passed, and wait until it passes again."""
        another = self._passed
        if another is not None:
            self._tried((another,), None, pace)
            self._repeated(another)

    def _at_fault(self, item: X, error: Exception) -> ServerFaultError:
        n_tries = _ROUNDS * self._attempts
        _LOG.warning(
            "Qdrant fails at %s, %d tries of it alone, and takes others of the same moment: %s",
            self._name(item),
            n_tries,
            error,
        )
        told = ServerFaultError(
            f"The server failed at it {n_tries} times, sent alone, and took others of the same "
            f"moment: {error}. Its log may tell more."
        )
        told.__cause__ = error
        return told

    def _told(self, items: tuple[X, ...]) -> str:
        if len(items) == 1:
            return self._name(items[0])
        return f"{len(items)} {self._noun}, {self._name(items[0])} and on"


def _suspects(items: tuple[X, ...], outcomes: Sequence[object]) -> list[X]:
    pairs = zip(items, outcomes, strict=True)
    return [item for item, outcome in pairs if isinstance(outcome, _Suspect)]


def patient(nap: Callable[[float], None]) -> Retrying:
    """Make what waits out an outage of one request that is nobody's item."""
    return Retrying(
        retry=retry_if_exception(is_transient),
        wait=lambda state: _Pace(state.attempt_number - 1).after(_error_of(state)),
        stop=lambda _: STOP.overdue,
        sleep=nap,
        before_sleep=partial(_log_retry, ""),
        reraise=True,
    )


def place_of(origin: Message) -> str:
    """Tell which message something came from, for a log."""
    key = origin.key if origin.key is None else origin.key[:_LONGEST_KEY]
    return f"{origin.topic}/{origin.partition} offset {origin.offset}, key {key!r}"


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    return error or AssertionError("a try that is repeated has failed")


def _log_retry(what: str, state: RetryCallState) -> None:
    RETRIES.labels("qdrant").inc()
    after = state.next_action.sleep if state.next_action else 0.0
    told = f", {what}" if what else ""
    n = state.attempt_number
    _LOG.warning("Qdrant: %s; again in %.1f s (try %d%s)", _error_of(state), after, n, told)
