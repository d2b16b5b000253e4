"""Bytes of a file by their place, so that a walk over its structure reads only what it needs."""

from __future__ import annotations

import io
import struct
from typing import IO, TYPE_CHECKING, Any

from fastembed_stream.errors import ImageError

if TYPE_CHECKING:
    import re

__all__ = ["View", "check_pixels"]

_BLOCK = 1 << 18


class View:
    """
    A file to walk over.

    size  in bytes
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start, self._block = 0, b""
        self.size = file.seek(0, io.SEEK_END)

    def take(self, at: int, n_bytes: int) -> bytes:
        """Read some bytes; fewer where the file ends."""
        if at >= self.size:
            return b""
        end = at + n_bytes
        if not self._start <= at <= end <= self._start + len(self._block):
            self._file.seek(at)
            self._start, self._block = at, self._file.read(max(n_bytes, _BLOCK))
        return self._block[at - self._start : end - self._start]

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        """Read numbers as `struct` does; raise struct.error where the file ends before."""
        return struct.unpack(form, self.take(at, struct.calcsize(form)))

    def padded(self, form: str, at: int) -> tuple[Any, ...]:
        """Read numbers, zeros where the file ends before: Pillow then tells the damage."""
        n_bytes = struct.calcsize(form)
        return struct.unpack(form, self.take(at, n_bytes).ljust(n_bytes, b"\0"))

    def find(self, pattern: re.Pattern[bytes], at: int, overlap: int) -> int:
        """
        Find where a pattern stands, from a place on.

        overlap  one less than the longest text that it matches
        returns  -1 where it stands nowhere
        """
        while at < self.size:
            self.take(at, overlap + 1)
            if found := pattern.search(self._block, at - self._start):
                return self._start + found.start()
            end = self._start + len(self._block)
            if end >= self.size:
                return -1
            at = max(end - overlap, at + 1)
        return -1


def check_pixels(kind: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse what decodes to more pixels than anybody should make room for."""
    if width * height > max_pixels:
        reason = (
            f"it is {kind} that decodes to {width} x {height} pixels; at most {max_pixels:,} are "
            "read. If that is its true size, make it smaller or raise max_pixels; if not, it is "
            "damaged or cut off."
        )
        raise ImageError(reason)
