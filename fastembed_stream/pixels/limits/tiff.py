"""
TIFF: what a decoder makes room for is a tile, which may be larger than the image.

Strips and tiles are pointers: more of them than the image has pixels for are drawn over each
other, each at the price of the first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = ["check", "is_mine"]

MOST_TAGS = 4_096
"""As many as libtiff takes for a directory; ordinary files have about twenty."""

MOST_PARTS = 100_000
"""Strips or tiles, each at ten microseconds of Python where they are not packed."""

_HEADS = (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")
_WIDTH, _HEIGHT, _ROWS_PER_STRIP, _SAMPLES, _PLANAR = 256, 257, 278, 277, 284
_STRIPS, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 273, 322, 323, 324

_DIRECTORIES = frozenset({34665, 34853, 40965})
"""Tags that lead to EXIF, GPS and interoperability, which Pillow reads with the pixels."""

_TOLD_ONCE = frozenset(
    {
        _WIDTH,
        _HEIGHT,
        _ROWS_PER_STRIP,
        _SAMPLES,
        _PLANAR,
        _STRIPS,
        _TILE_WIDTH,
        _TILE_HEIGHT,
        _TILES,
    }
)
"""Of two such tags Pillow and libtiff may take different ones."""

_FORMS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
"""Types of whole numbers."""

_SIZES = {kind: struct.calcsize("=" + form) for kind, form in _FORMS.items()} | {
    2: 1,
    5: 8,
    7: 1,
    10: 8,
    11: 4,
    12: 8,
}
"""Bytes of one value, by its type."""

_SEPARATE = 2
_MOST_COVERED = 4
"""Tiles stand over the edge: an image one pixel wider and higher than a tile has four of them."""


@dataclass(frozen=True, slots=True)
class _Tag:
    """
    A value of the directory.

    count  how many numbers it has
    first  the first of them; None where it is no whole number
    """

    count: int
    first: int | None


def is_mine(head: bytes) -> bool:
    """Tell a TIFF file, BigTIFF too."""
    return head.startswith(_HEADS)


def check(view: View, max_pixels: int) -> None:
    """Refuse tiles larger than allowed, more strips than rows, and floods of tags."""
    tags = dict(_tags(view))
    width, height = _number(tags, _WIDTH, 0), _number(tags, _HEIGHT, 0)
    check_pixels("a TIFF", width, height, max_pixels)
    planes = _number(tags, _SAMPLES, 1) if _number(tags, _PLANAR, 1) == _SEPARATE else 1
    if _TILES in tags:
        across, down = _number(tags, _TILE_WIDTH, 0), _number(tags, _TILE_HEIGHT, 0)
        check_pixels("a TIFF with tiles", across, down, max_pixels)
        n_across, n_down = _parts(width, across), _parts(height, down)
        covered = n_across * across, n_down * down
        check_pixels("a TIFF with tiles", *covered, _MOST_COVERED * max_pixels)
        _check_parts("tiles", tags[_TILES].count, n_across * n_down * planes)
    if _STRIPS in tags:
        rows = min(_number(tags, _ROWS_PER_STRIP, height), height)
        _check_parts("strips", tags[_STRIPS].count, _parts(height, rows) * planes)


def _tags(view: View) -> Iterator[tuple[int, _Tag]]:
    """Read the first directory; those that it leads to are checked on the way."""
    head = view.take(0, 16)
    if head.startswith(b"MM\0+"):
        # Pillow takes it for an ordinary TIFF, libtiff for what it is.
        reason = "it is a BigTIFF of big-endian order, which is not read. Save it as PNG."
        raise ImageError(reason)
    order = "<" if head.startswith(b"II") else ">"
    is_big = head[2] == ord("+")
    forms = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHL4s", "L")
    count_form, entry_form, offset_form = (order + form for form in forms)
    directory = _Directory(view, order, count_form, entry_form, offset_form)
    [at] = view.unpack(offset_form, 8 if is_big else 4)
    waiting, walked = [at], set[int]()
    while waiting:
        at = waiting.pop()
        if at in walked or at >= view.size:
            continue
        for tag, value in directory.tags(at):
            if tag in _DIRECTORIES and value.first is not None:
                waiting.append(max(value.first, 0))
            if not walked:
                yield tag, value
        walked.add(at)


@dataclass(frozen=True, slots=True)
class _Directory:
    """How the directories of a file are written: forms of `struct`."""

    view: View
    order: str
    count_form: str
    entry_form: str
    offset_form: str

    def tags(self, at: int) -> Iterator[tuple[int, _Tag]]:
        """Read one; of a tag that comes twice, Pillow takes the first."""
        view = self.view
        [n_tags] = view.padded(self.count_form, at)
        if n_tags > MOST_TAGS:
            reason = (
                f"it is a TIFF with {n_tags:,} tags; at most {MOST_TAGS:,} are read. Save it anew."
            )
            raise ImageError(reason)
        at += struct.calcsize(self.count_form)
        n_entry, n_bytes, seen = struct.calcsize(self.entry_form), 0, set[int]()
        # Where the file ends before, Pillow goes on with the tags so far.
        while n_tags and len(entry := view.take(at, n_entry)) == n_entry:
            tag, kind, count, value = struct.unpack(self.entry_form, entry)
            n_tags -= 1
            at += n_entry
            if tag in seen and tag in _TOLD_ONCE:
                reason = f"it is a TIFF that tells tag {tag} more than once. Save it anew."
                raise ImageError(reason)
            size = count * _SIZES.get(kind, 0)
            if not size or tag in seen:
                continue
            seen.add(tag)
            place = at - len(value)
            if size > len(value):
                [place] = struct.unpack(self.offset_form, value)
                n_bytes += size if place + size <= view.size else 0
            if n_bytes > view.size:
                reason = "it is a TIFF whose tags share their bytes, over and over. Save it anew."
                raise ImageError(reason)
            form = _FORMS.get(kind)
            yield tag, _Tag(count, view.padded(self.order + form, place)[0] if form else None)


def _number(tags: Mapping[int, _Tag], tag: int, default: int) -> int:
    found = tags.get(tag)
    return default if found is None or found.first is None else found.first


def _parts(whole: int, part: int) -> int:
    return -(-whole // part) if part else 0


def _check_parts(kind: str, n_found: int, n_expected: int) -> None:
    n_most = min(n_expected or MOST_PARTS, MOST_PARTS)
    if n_found > n_most:
        reason = f"it is a TIFF with {n_found:,} {kind}; expected at most {n_most:,}. Save it anew."
        raise ImageError(reason)
