"""Lines of a file as messages, as if they came from Kafka."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.files.content import Content, being_written, is_packed, open_content, reading
from operators.files.reading import Pages, ReadingPartition
from operators.outages import BrokenFlowError, SaidOnce
from operators.pressure import reset
from operators.records import DamagedMessage, Message
from operators.shutdown import STOP

__all__ = ["JsonLinesSource"]

_LOG = logging.getLogger(__name__)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SETTLED_S = 0.5
"""A file that nobody has open, and that has not grown for so long, is not being written."""

_BLOCK = 1 << 20
_KEPT_OF_TOO_LONG = 1_000


class JsonLinesSource(FixedPartitionedSource[Message, tuple[int, int]]):
    r"""
    Lines of a file, each a message: JSON or text, for the decoder to tell.

    max_line_bytes  a longer line is a failure, of which only the start is read: bounds memory
    objects         whether each line has to be a JSON object; a file that is one JSON array is
                    then refused

    A message's topic is the file's name, its offset the number of the line, counted from 0, and so
    is its key, for a schema without a key field. Lines end with \n or \r\n; empty ones are counted,
    and left out. The file is read once to its end, by one worker. It may be packed by gzip, or by
    zstd where that extra is installed; places count unpacked bytes.

    A last line without its end waits as long as somebody has the file open for writing (Linux
    tells), or the file still grows; then it is read as it is. Where it is completed later, a
    resume reads the whole line under the same number.

    Delivery: where the next line stands is kept in the recovery store with each epoch; a crash
    reads again from the last commit, and a file that was read to its end gives what was appended
    since. One that has become shorter fails the flow, and so does a packed one that ends in the
    middle. Messages of a changed file carry another log, so that line numbers of two versions are
    not compared.

    raises  SettingError where there is no such file, or it is one JSON array
    """

    def __init__(
        self,
        path: Path,
        pages: Pages = Pages(),  # noqa: B008  frozen
        *,
        max_line_bytes: int = 64 << 20,
        objects: bool = False,
    ) -> None:
        self._path = path
        self._pages = pages
        self._max_line_bytes = max_line_bytes
        if not path.is_file():
            msg = f"{path} is not a file. Expected lines of JSON; name another."
            raise SettingError(msg)
        if max_line_bytes < 1:
            msg = f"JsonLinesSource(max_line_bytes={max_line_bytes}): expected at least 1."
            raise SettingError(msg)
        if objects and _is_one_array(path):
            msg = (
                f"{path} is one JSON array; expected a JSON object on each line. "
                f"`jq -c '.[]' {path.name}` makes lines of it."
            )
            raise SettingError(msg)

    @override
    def list_parts(self) -> list[str]:
        reset()  # what an earlier flow on this thread has left
        return [self._path.name]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: tuple[int, int] | None
    ) -> _Lines:
        STOP.started = True
        return _Lines(
            self._path, step_id, self._pages, resume_state, max_line_bytes=self._max_line_bytes
        )


@dataclass(frozen=True, slots=True)
class _Line:
    """
    A line as it stands in the file.

    value  its bytes with their end; of one that is too long the start
    size   all its bytes
    ended  whether its end was read
    """

    value: bytes
    size: int
    ended: bool


class _Lines(ReadingPartition[tuple[int, int]]):
    """A file and the place in it: in bytes, and in lines."""

    def __init__(
        self,
        path: Path,
        step_id: str,
        pages: Pages,
        place: tuple[int, int] | None,
        *,
        max_line_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(pages)
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._clock = clock
        self._packed = is_packed(path)
        self._file = open_content(path)
        self._at, self._number = place or (0, 0)
        self._waiting = False
        self._still_size, self._still_since = -1, 0.0
        self._said = SaidOnce()
        found = path.stat()
        self._log = f"{found.st_mtime_ns:x}-{found.st_size:x}"
        if self._at > 0:
            with reading(path, self._where):
                self._go_to(step_id)

    @override
    def read(self) -> Message | None:
        while (line := self._next()) is not None:
            start, number = self._at, self._number
            self._at += line.size
            self._number += 1
            if line.size > self._max_line_bytes:
                return self._too_long(number, line)
            value = line.value.removesuffix(b"\n").removesuffix(b"\r")
            if start == 0:
                value = value.removeprefix(_BYTE_ORDER_MARK)
            if value.strip():
                return self._message(number, value)
        return None

    @override
    def waits(self) -> bool:
        return self._waiting

    @override
    def place(self) -> tuple[int, int]:
        return self._at, self._number

    @override
    def close(self) -> None:
        self._file.close()

    def _next(self) -> _Line | None:
        """Give the next line that is whole, or that nobody will complete; None where none is."""
        size = os.fstat(self._file.fileno()).st_size
        if self._waiting and size == self._still_size and not self._settled():
            return None
        with reading(self._path, self._where):
            line = self._line()
        self._waiting = bool(line.size) and not (line.ended or self._packed)
        if not self._waiting:
            return line if line.size else None
        if size != self._still_size or self._at + line.size != size:
            age_s = max(time.time() - os.fstat(self._file.fileno()).st_mtime, 0.0)
            self._still_size, self._still_since = size, self._clock() - min(age_s, _SETTLED_S)
        if self._settled():
            self._waiting = False
            return line
        self._file.seek(self._at)
        return None

    def _line(self) -> _Line:
        value = self._file.readline(self._max_line_bytes + 1)
        size, end = len(value), value[-1:]
        if end != b"\n" and size > self._max_line_bytes:
            value = value[:_KEPT_OF_TOO_LONG]
            while end != b"\n" and (more := self._file.readline(_BLOCK)):
                size, end = size + len(more), more[-1:]
        return _Line(value, size, end == b"\n")

    def _settled(self) -> bool:
        """Tell whether a last line without its end will have none."""
        if self._clock() - self._still_since < _SETTLED_S:
            return False
        if not being_written(self._file):
            return True
        self._still_since = self._clock()  # asked again after a while
        if self._said.due("open"):
            _LOG.info(
                "%s: line %d has no end yet, and somebody has the file open for writing; waiting",
                self._path,
                self._number,
            )
        return False

    def _go_to(self, step_id: str) -> None:
        """Go to the place to resume from; to the start of a line that was completed since."""
        n_there, start = self._skip(self._at)
        if n_there < self._at:
            msg = (
                f"Step {step_id}: {self._path} has {n_there:,} bytes, but {self._at:,} were read "
                "before: it was cut or replaced. Start with an empty recovery store to read it "
                "anew."
            )
            raise BrokenFlowError(msg)
        if start == self._at:
            return
        # The last line was read at the end of the file, without an end of its own.
        rest = self._line()
        if rest.value.strip(b"\r\n"):
            self._number -= 1
            _LOG.warning(
                "%s: line %d was read before it was whole; it is read again",
                self._path,
                self._number,
            )
            self._at = start
        elif rest.ended:
            self._at += rest.size
        self._reopen()
        self._skip(self._at)

    def _skip(self, n_bytes: int) -> tuple[int, int]:
        """Go so far from the start; give how far that is, and where the line there starts."""
        if not self._packed:
            return self._skip_plain(n_bytes)
        done, start = 0, 0
        while done < n_bytes and (block := self._file.read(min(_BLOCK, n_bytes - done))):
            newline = block.rfind(b"\n")
            start = start if newline < 0 else done + newline + 1
            done += len(block)
        return done, start

    def _skip_plain(self, n_bytes: int) -> tuple[int, int]:
        size = os.fstat(self._file.fileno()).st_size
        if size < n_bytes:
            return size, 0
        start = n_bytes
        while start > 0:
            first = max(start - _BLOCK, 0)
            self._file.seek(first)
            newline = self._file.read(start - first).rfind(b"\n")
            if newline >= 0:
                start = first + newline + 1
                break
            start = first
        self._file.seek(n_bytes)
        return n_bytes, start

    def _reopen(self) -> None:
        self._file.close()
        self._file = open_content(self._path)

    def _where(self) -> str:
        return f"{self._number} lines"

    def _message(self, number: int, value: bytes) -> Message:
        return Message(
            topic=self._path.name,
            partition=0,
            offset=number,
            key=str(number).encode(),
            value=value,
            log=self._log,
        )

    def _too_long(self, number: int, line: _Line) -> Message:
        return DamagedMessage(
            topic=self._path.name,
            partition=0,
            offset=number,
            key=str(number).encode(),
            value=line.value[:_KEPT_OF_TOO_LONG],
            log=self._log,
            damage=(
                f"line {number} has {line.size:,} bytes, more than "
                f"max_line_bytes={self._max_line_bytes:,}; split it, or raise the limit"
            ),
        )


def _is_one_array(path: Path) -> bool:
    """
    Tell whether a file is one JSON array rather than lines.

    A bad line alone makes no array of a file: its neighbours are read.
    """
    with reading(path, lambda: "a few lines"), open_content(path) as file:
        first = _some_line(file)
        if not first.startswith(b"["):
            return False
        second = _some_line(file)
    if not second:
        return len(first) >= _BLOCK or _json(first) is list
    if not is_packed(path) and not _ends_with_bracket(path):
        return False
    return first == b"[" or (_json(first) is None and _json(second) is not dict)


def _some_line(file: Content) -> bytes:
    while line := file.readline(_BLOCK):
        if stripped := line.removeprefix(_BYTE_ORDER_MARK).strip():
            return stripped
    return b""


def _ends_with_bracket(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _KEPT_OF_TOO_LONG, 0))
        return file.read().rstrip().endswith(b"]")


def _json(line: bytes) -> type | None:
    try:
        return type(json.loads(line))
    except (ValueError, RecursionError):
        return None
