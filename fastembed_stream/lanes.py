"""
Which thread runs which group: lanes over the sessions of one graph.

Calls share the lanes fairly, a group of each in turn: a short call beside a long one waits for the
groups that run, and not for those that wait.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fastembed_stream.threads import Threads, worker_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from fastembed_stream.session import Session
    from fastembed_stream.values import Ints

__all__ = ["Lanes"]

Read = TypeVar("Read")
Answer = TypeVar("Answer")

_EXIT_WAIT_S = 10.0
"""How long the end of a program waits for the groups that run; each is stopped at its next node."""


class Lanes:
    """
    Threads that run groups, one for each place that a session has.

    Each takes the next group when it is free, so devices of unlike speed each take what they can.
    """

    def __init__(self, sessions: tuple[Session, ...]) -> None:
        self._start(sessions)

    def _start(self, sessions: tuple[Session, ...]) -> None:
        self.sessions = sessions
        self._places = tuple(session for session in sessions for _ in range(session.lanes))
        self._threads = Threads(self.n, "lane", exit_wait_s=_EXIT_WAIT_S)

    @property
    def n(self) -> int:
        """Tell how many groups run at once; none after `close`."""
        return len(self._places)

    def use(self, sessions: tuple[Session, ...]) -> None:
        """
        Run what is handed in from now on on these sessions; what waits runs where it waits.

        What was closed meanwhile stays so.
        """
        if not self.sessions:
            return
        self._threads.finish()
        self._start(sessions)

    def submit(
        self,
        run: Callable[[Session, Read, Ints], Sequence[Answer]],
        reading: Read,
        rows: Ints,
        *,
        turn: object,
    ) -> Future[Sequence[Answer]]:
        """
        Run a group on the session that is free first.

        turn  the call that the group belongs to: calls take turns
        """
        places = self._places
        return self._threads.submit(
            lambda rows: run(places[worker_number()], reading, rows), rows, turn=turn
        )

    def on_every(
        self,
        sessions: Sequence[Session],
        run: Callable[[Session, Read, Ints], Sequence[Answer]],
        reading: Read,
        rows: Ints,
    ) -> list[Future[Sequence[Answer]]]:
        """Run the same group once for each lane of some sessions, whatever is free."""
        return [
            self._threads.submit(partial(run, session, reading), rows)
            for session in sessions
            for _ in range(session.lanes)
        ]

    def close(self) -> None:
        """Cancel what has not started, end the threads, and let go of the sessions."""
        self._threads.close()
        self.sessions = ()
        self._places = ()
