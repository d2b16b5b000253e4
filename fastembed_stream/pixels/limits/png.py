"""PNG: few chunks cost much, but each packed one may unpack to a megabyte, in whatever number."""

from __future__ import annotations

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = ["check", "check_at", "is_mine"]

MOST_CHUNKS = 100_000
MOST_PACKED = 64
"""Pillow unpacks each to at most a megabyte, but does not count those without a keyword."""

MAGIC = b"\x89PNG\r\n\x1a\n"
_PACKED = frozenset({b"iCCP", b"zTXt", b"iTXt"})


def is_mine(head: bytes) -> bool:
    """Tell a PNG file."""
    return head.startswith(MAGIC)


def check(view: View, max_pixels: int) -> None:
    """Refuse a file of too many chunks, or of too many pixels."""
    check_at(view, 0, max_pixels)


def check_at(view: View, start: int, max_pixels: int) -> None:
    """Refuse what starts within a file, as in icons."""
    at = start + len(MAGIC)
    n_chunks = n_packed = 0
    while len(head := view.take(at, 8)) == 8:  # noqa: PLR2004  a length and a name
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        n_chunks += 1
        n_packed += name in _PACKED
        if name == b"IEND":
            return
        if name == b"IHDR":
            # The last one before the pixels counts, so each is checked.
            width, height = view.padded(">II", at + 8)
            check_pixels("a PNG", width, height, max_pixels)
        if n_chunks > MOST_CHUNKS or n_packed > MOST_PACKED:
            told = f"{MOST_PACKED} packed" if n_packed > MOST_PACKED else f"{MOST_CHUNKS:,}"
            reason = f"it is a PNG with more than {told} chunks; ordinary are few. Save it anew."
            raise ImageError(reason)
        at += 12 + length
