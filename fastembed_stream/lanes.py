"""Which thread runs which group: lanes over the sessions of one graph."""

from __future__ import annotations

from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from fastembed_stream.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from fastembed_stream.session import Session
    from fastembed_stream.values import Ints

__all__ = ["Lanes"]

Read = TypeVar("Read")
Answer = TypeVar("Answer")


class Lanes:
    """
    Threads that run groups, each on a session that has a place free.

    A session stands in the queue once for each of its lanes, so devices of unlike speed each take
    what they can.
    """

    def __init__(self, sessions: tuple[Session, ...]) -> None:
        self.use(sessions)
        self._threads = Threads(self.n, "lane")

    def use(self, sessions: tuple[Session, ...]) -> None:
        """Run what is handed in from now on on these sessions, on no more lanes than at first."""
        free: SimpleQueue[Session] = SimpleQueue()
        for session in sessions:
            for _ in range(session.lanes):
                free.put(session)
        self.sessions = sessions
        self.n = sum(session.lanes for session in sessions)
        self._free = free

    def submit(
        self,
        run: Callable[[Session, Read, Ints], Sequence[Answer]],
        reading: Read,
        rows: Ints,
    ) -> Future[Sequence[Answer]]:
        """Run a group on the session that is free first."""

        def on_free_session(rows: Ints) -> Sequence[Answer]:
            session = free.get()
            try:
                return run(session, reading, rows)
            finally:
                free.put(session)

        free = self._free
        return self._threads.submit(on_free_session, rows)

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
        """Cancel what has not started, and end the threads."""
        self._threads.close()
