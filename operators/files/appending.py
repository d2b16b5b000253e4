"""Lines at the end of a file: whole, on disk, and waiting out a disk that is full."""

from __future__ import annotations

import errno
import logging
import os
import select
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from io import FileIO
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from operators.files.places import Place
from operators.metrics import RETRIES
from operators.outages import BrokenFlowError
from operators.shutdown import STOP

__all__ = ["LineFile"]

_LOG = logging.getLogger(__name__)

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Someone makes room, or a disk of the network comes back."""


class LineFile:
    """
    A file that lines are appended to, opened for each write.

    what   the lines are, for messages
    locks  what is held during a write, where others write to the same file

    Delivery: what `append` has returned from is on disk. A full disk is waited out; of a write
    that failed nothing stays. A device or the process' own output has no disk: what it was given
    may be lost, and of a write that failed a part may stay.
    """

    def __init__(
        self,
        path: Path,
        *,
        what: str,
        step_id: str,
        locks: Sequence[AbstractContextManager[object]] = (),
    ) -> None:
        self.path = path
        self._what = what
        self._step_id = step_id
        self._locks = tuple(locks)
        self._retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=lambda _: STOP.overdue,
            sleep=_nap,
            before_sleep=self._log,
            reraise=True,
        )

    def append(self, lines: bytes) -> int:
        """
        Write lines; give the size of the file then, in bytes.

        raises  BrokenFlowError where the file cannot be written, and waiting is over or in vain
        """
        try:
            return self._retrying(self._append, lines)
        except OSError as error:
            raise self._broken(error, _may_pass(error)) from error

    def cut(self, size: int) -> None:
        """
        Take away what stands behind `size` bytes; a file that is not there is made.

        raises  BrokenFlowError where the file is shorter, or cannot be written
        """
        try:
            self.path.touch()
            found = self.path.stat().st_size
            if found > size:
                os.truncate(self.path, size)
        except OSError as error:
            raise self._broken(error, passing=False) from error
        if found < size:
            msg = (
                f"Step {self._step_id}: {self.path} has {found:,} bytes, but {size:,} were "
                "written before: it was cut or replaced. Put it back, or start with an empty "
                "recovery store to write all again."
            )
            raise BrokenFlowError(msg)

    def _append(self, lines: bytes) -> int:
        # Synced at once, and not with the epoch: after an error the kernel may have dropped what
        # it held, and a second sync would find nothing wrong.
        with ExitStack() as held:
            for lock in self._locks:
                held.enter_context(lock)
            place = Place.of(self.path)
            if place.is_stream:
                return _pour(place, lines)
            if not place.is_file:  # opened, a pipe would wait for its other end
                raise OSError(errno.EINVAL, f"it is {place.kind}")
            with self.path.open("a+b", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                try:
                    if size > 0:
                        file.seek(size - 1)
                        if file.read(1) != b"\n":  # a crash has cut the last line
                            lines = b"\n" + lines
                    _write_all(file, lines)
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):
                        file.truncate(size)  # of what is written again nothing stays
                    raise
                return size + len(lines)

    def _broken(self, error: OSError, passing: bool) -> BrokenFlowError:  # noqa: FBT001  private
        too_late = ", and the time to drain is over" if passing else ""
        return BrokenFlowError(
            f"Step {self._step_id}: {self._what} cannot be written to {self.path}: "
            f"{error}{too_late}. They are repeated on resume."
        )

    def _log(self, state: RetryCallState) -> None:
        RETRIES.labels(self._what.replace(" ", "_")).inc()
        error = state.outcome.exception() if state.outcome else None
        after = state.next_action.sleep if state.next_action else 0.0
        what = self._what.capitalize()
        _LOG.warning("%s: %s: %s; again in %.1f s", what, self.path, error, after)


def _pour(place: Place, lines: bytes) -> int:
    """Write to what has no end that could be synced or cut."""
    with place.open() as file:
        _write_all(file, lines)
        with suppress(OSError):  # the process' own output may lead to a file
            os.fsync(file.fileno())
    return len(lines)


def _write_all(file: FileIO, lines: bytes) -> None:
    left = memoryview(lines)
    while left:  # a nearly full disk takes a part of it
        n_written: int | None = file.write(left)
        if n_written is None:  # whoever shares this output has made it non-blocking
            select.select([], [file], [], 1.0)
        left = left[n_written or 0 :]


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _PASSING


def _nap(seconds: float) -> None:
    """Sleep; only for a moment once the flow should end, so that its time to drain is kept."""
    STOP.wait(seconds)
    if STOP.requested:
        time.sleep(min(seconds, 0.5))
