"""What a path leads to: a file that can be synced and cut, or something that only takes bytes."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

__all__ = ["Place"]

_KINDS = {
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}

_STDOUT, _STDERR = 1, 2

_NO_TERMINAL: int = getattr(os, "O_NOCTTY", 0)
"""A terminal that is written to does not become this process' own; Windows has no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a path leads when it is looked at.

    path    the path itself, links in it not followed
    mode    of what is there; None where nothing is
    stream  number of the process' own output that it is, such as 1 for /dev/stdout; else None
    """

    path: Path
    mode: int | None
    stream: int | None

    @classmethod
    def of(cls, path: Path) -> Place:
        """
        Look at a path, and open nothing: a pipe would wait for its other end.

        raises  OSError where that cannot be found out
        """
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return cls(path=path, mode=None, stream=None)
        return cls(path=path, mode=found.st_mode, stream=_own_output(found))

    @property
    def is_file(self) -> bool:
        """Tell a regular file, or where one can be made."""
        return self.stream is None and (self.mode is None or stat.S_ISREG(self.mode))

    @property
    def is_stream(self) -> bool:
        """Tell what takes bytes and forgets them: the process' own output, /dev/null."""
        return self.stream is not None or (self.mode is not None and stat.S_ISCHR(self.mode))

    @property
    def is_writable(self) -> bool:
        """Tell whether a file here could be written, or made."""
        if self.mode is not None:
            return os.access(self.path, os.W_OK)
        near = next(parent for parent in self.path.absolute().parents if parent.exists())
        return near.is_dir() and os.access(near, os.W_OK | os.X_OK)

    def open(self) -> FileIO:
        """Open what only takes bytes."""
        if self.stream is not None:  # by its number: a socket cannot be opened by its path
            return FileIO(os.dup(self.stream), "w")
        return FileIO(os.open(self.path, os.O_WRONLY | os.O_APPEND | _NO_TERMINAL), "w")

    @property
    def kind(self) -> str:
        """Name it as a message does."""
        if self.stream is not None:
            return "the output of this process"
        if self.mode is None or stat.S_ISREG(self.mode):
            return "a file"
        return _KINDS.get(stat.S_IFMT(self.mode), "no regular file")


def _own_output(found: os.stat_result) -> int | None:
    """Tell which of the process' outputs a path is, also where those lead to a file."""
    if sys.platform == "win32":  # numbers of files mean nothing there
        return None
    for number in (_STDOUT, _STDERR):
        try:
            own = os.fstat(number)
        except OSError:  # a service may have closed it
            continue
        if os.path.samestat(found, own):
            return number
    return None
