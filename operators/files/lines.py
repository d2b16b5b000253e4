"""Lines of a file as messages, as if they came from Kafka."""

from __future__ import annotations

import os
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.files.reading import Pages, ReadingPartition
from operators.outages import BrokenFlowError
from operators.pressure import reset
from operators.records import Message
from operators.shutdown import STOP

__all__ = ["JsonLinesSource"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonLinesSource(FixedPartitionedSource[Message, tuple[int, int]]):
    r"""
    Lines of a file, each a message: JSON or text, for the decoder to tell.

    A message's topic is the file's name, its offset the number of the line, counted from 0, and so
    is its key, for a schema without a key field. Lines end with \n or \r\n, the last one may end
    with the file; empty ones are counted, and left out. The file is read once to its end, by one
    worker. Memory: one line at a time may be as long as memory holds.

    Delivery: where the next line stands is kept in the recovery store with each epoch; a crash
    reads again from the last commit, and a file that was read to its end gives what was appended
    since. One that has become shorter fails the flow. Messages of a changed file carry another
    log, so that line numbers of two versions are not compared.

    raises  SettingError where there is no such file
    """

    def __init__(
        self,
        path: Path,
        pages: Pages = Pages(),  # noqa: B008  frozen
    ) -> None:
        self._path = path
        self._pages = pages
        if not path.is_file():
            msg = f"{path} is not a file. Expected lines of JSON; name another."
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
        return _Lines(self._path, step_id, self._pages, *(resume_state or (0, 0)))


class _Lines(ReadingPartition[tuple[int, int]]):
    """A file and the place in it: in bytes, and in lines."""

    def __init__(self, path: Path, step_id: str, pages: Pages, at: int, number: int) -> None:
        super().__init__(pages)
        self._path = path
        self._file = path.open("rb")
        found = os.fstat(self._file.fileno())
        if found.st_size < at:
            msg = (
                f"Step {step_id}: {path} has {found.st_size:,} bytes, but {at:,} were read before: "
                "it was cut or replaced. Start with an empty recovery store to read it anew."
            )
            raise BrokenFlowError(msg)
        self._log = f"{found.st_mtime_ns:x}-{found.st_size:x}"
        self._at = at
        self._number = number
        self._file.seek(at)

    @override
    def read(self) -> Message | None:
        while line := self._file.readline():
            start, number = self._at, self._number
            self._at += len(line)
            self._number += 1
            value = line.removesuffix(b"\n").removesuffix(b"\r")
            if start == 0:
                value = value.removeprefix(_BYTE_ORDER_MARK)
            if value.strip():
                return self._message(number, value)
        return None

    @override
    def place(self) -> tuple[int, int]:
        return self._at, self._number

    @override
    def close(self) -> None:
        self._file.close()

    def _message(self, number: int, value: bytes) -> Message:
        return Message(
            topic=self._path.name,
            partition=0,
            offset=number,
            key=str(number).encode(),
            value=value,
            log=self._log,
        )
