"""
Which records were in a stage when the process ended: one that hangs or kills it is found so.

A batch that never ends, or a record on which native code crashes, ends the flow at each start
anew. Nothing of it can be caught, and the last snapshot is older than the moment. So what enters a
stage is written down before, and struck out after. The page survives the process; whoever is
still on it at the next start was under way at the end.
"""

from __future__ import annotations

import atexit
import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from operators.records import Batch, Record

__all__ = ["UNDER_WAY", "Suspect", "UnderWay", "UnfinishedError"]

_LOG = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS running (id TEXT PRIMARY KEY, process TEXT, stage TEXT, places TEXT);
CREATE TABLE IF NOT EXISTS ends (place TEXT PRIMARY KEY, n INTEGER, stage TEXT);
"""


class UnfinishedError(RuntimeError):
    """A record that was under way whenever the flow ended."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """
    How often the flow has ended in a row while a record was in a stage.

    n_ends  so often
    stage   at the last of them
    """

    n_ends: int
    stage: str


Place: TypeAlias = str
"""Where a record's message stands, and in which step: its parts share it."""


class UnderWay:
    """
    The records in stages, on a page that outlives the process; without a folder, nowhere.

    The processes of a flow share the page. It is written without waiting for the disk: it outlives
    a process, and need not outlive a machine.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._page: sqlite3.Connection | None = None
        self._process = uuid.uuid4().hex
        self._suspects: dict[Place, Suspect] = {}
        self._is_kept = False
        self._turn = threading.Condition()
        self._n_turns = 0
        self._alone: set[int] = set()
        self._n_together = 0
        self._is_alone = False

    def open(self, folder: Path) -> None:
        """
        Read who was under way when the last process ended, and begin anew.

        Before the flow runs: all processes of it read the page before any of them writes on it.
        """
        try:
            page = sqlite3.connect(
                folder / "under_way.db", check_same_thread=False, isolation_level=None, timeout=10
            )
            page.execute("PRAGMA journal_mode=WAL")
            page.execute("PRAGMA synchronous=OFF")
            page.executescript(_SCHEMA)
            self._suspects = _settled(page)
        except (OSError, sqlite3.Error) as error:
            _LOG.warning("%s: cannot tell which records end the flow: %s", folder, error)
            return
        self._page = page
        atexit.register(self.close)

    def close(self) -> None:
        """Strike out what this process has under way, unless it is what ends the process."""
        if not self._is_kept:
            self._write("DELETE FROM running WHERE process = ?", self._process)
        with self._lock:
            page, self._page = self._page, None
            if page is not None:
                page.close()
        self._suspects = {}
        self._is_kept = False

    def keep(self) -> None:
        """Leave the page as it is: the process ends because of what is under way."""
        self._is_kept = True

    def suspect(self, step: str, batch: Batch) -> Suspect | None:
        """Tell whether a batch's first record was under way at the last end; see `pieces`."""
        if not self._suspects or not batch.records:
            return None
        return self._suspects.get(_place(step, batch.records[0]))

    def pieces(self, step: str, batch: Batch) -> list[Batch]:
        """Part a batch such that each suspect stands alone, in their order."""
        if not self._suspects or not batch.records:
            return [batch]

        def whose(record: Record) -> Place | None:
            place = _place(step, record)
            return place if place in self._suspects else None

        own = [tuple(records) for _, records in groupby(batch.records, key=whose)]
        return [
            Batch(records=records, failures=batch.failures if records is own[0] else ())
            for records in own
        ]

    def cleared(self, step: str, batch: Batch) -> None:
        """Forget a suspicion: the record has come through."""
        place = _place(step, batch.records[0])
        self._suspects.pop(place, None)
        self._write("DELETE FROM ends WHERE place = ?", place)

    def place_in_line(self, *, alone: bool) -> int:
        """Give the next number for `turn`, which has to be called with it."""
        with self._turn:
            self._n_turns += 1
            if alone:
                self._alone.add(self._n_turns)
            return self._n_turns

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """
        Wait until a batch may run: beside a suspect none, or it would be one as well.

        No batch goes before a suspect that was there earlier: the time that a batch may take
        counts from when all before it are done.
        """
        alone = number in self._alone

        def may_run() -> bool:
            if self._is_alone:
                return False
            return self._n_together == 0 if alone else number < min(self._alone, default=number + 1)

        with self._turn:
            self._turn.wait_for(may_run)
            self._alone.discard(number)
            self._n_together += not alone
            self._is_alone = alone
        try:
            yield
        finally:
            with self._turn:
                self._n_together -= not alone
                self._is_alone = False
                self._turn.notify_all()

    @contextmanager
    def entered(self, step: str, stage: str, records: Sequence[Record]) -> Iterator[None]:
        """Have records on the page as long as they are in a stage."""
        if self._page is None:
            yield
            return
        number = uuid.uuid4().hex
        places = json.dumps(list(dict.fromkeys(_place(step, record) for record in records)))
        self._write("INSERT INTO running VALUES (?, ?, ?, ?)", number, self._process, stage, places)
        try:
            yield
        finally:
            self._write("DELETE FROM running WHERE id = ?", number)

    def _write(self, statement: str, *values: str) -> None:
        try:
            with self._lock:
                if self._page is not None:
                    self._page.execute(statement, values)
        except sqlite3.Error as error:
            # A full disk is no reason to stop: the flow only knows less after its next end.
            _LOG.warning("under_way.db: %s", error)


UNDER_WAY = UnderWay()
"""This process' one page."""


def _place(step: str, record: Record) -> Place:
    return f"{step} {record.origin.source} {record.origin.offset}"


def _settled(page: sqlite3.Connection) -> dict[Place, Suspect]:
    """Count one more end for all who are on the page, and give all who were."""
    page.execute("BEGIN IMMEDIATE")
    for stage, places in page.execute("SELECT stage, places FROM running").fetchall():
        page.executemany(
            "INSERT INTO ends VALUES (?, 1, ?) "
            "ON CONFLICT (place) DO UPDATE SET n = n + 1, stage = excluded.stage",
            [(place, stage) for place in json.loads(places)],
        )
    page.execute("DELETE FROM running")
    found = page.execute("SELECT place, n, stage FROM ends").fetchall()
    page.execute("COMMIT")
    return {place: Suspect(n, stage) for place, n, stage in found}
