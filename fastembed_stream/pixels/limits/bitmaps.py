"""Formats whose price stands in their first bytes: BMP, DIB, ICO, PPM and WebP."""

from __future__ import annotations

import re

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits import png
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = [
    "check_bmp",
    "check_dib",
    "check_icon",
    "check_interpreted",
    "check_ppm",
    "check_webp",
    "is_bmp",
    "is_dib",
    "is_icon",
    "is_ppm",
    "is_webp",
]

MOST_INTERPRETED = 8_000_000
"""Samples that Pillow decodes in Python, at up to half a microsecond each."""

MOST_ICONS = 256
MOST_COMMENTS = 1_000
"""Of plain PPM, which Pillow cuts out one by one, copying the rest each time."""

_LONGEST_PPM_HEAD = 1 << 16
_COMMENT = re.compile(rb"#")
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PPM_HEAD = re.compile(rb"P(?:[14]|0CMYK|[2356]|f|yP|yRGBA|yCMYK)" + (_GAP + rb"[^\s#]{1,11}") * 2)
_DIB_HEADS = frozenset({12, 40, 52, 56, 64, 108, 124})
_OLD_DIB = 12
_RUN_LENGTHS = frozenset({1, 2})
_PLAIN = frozenset({b"1", b"2", b"3"})

_INTERPRETED = {
    "bmp_rle": "a bitmap of run lengths",
    "ppm": "a PPM whose brightest is not 255",
    "ppm_plain": "a PPM of plain numbers",
}


def is_webp(head: bytes) -> bool:
    """Tell a WebP file."""
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def check_webp(view: View, max_pixels: int) -> None:
    """Refuse a canvas that is too large; room for it is made when the file is opened."""
    head = view.take(0, 30)
    match head[12:16]:
        case b"VP8X":
            canvas = [int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27)]
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            canvas = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
        case _:
            canvas = [int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28)]
    check_pixels("a WebP", canvas[0], canvas[1], max_pixels)


def is_icon(head: bytes) -> bool:
    """Tell an icon of Windows."""
    return head.startswith(b"\0\0\1\0")


def check_icon(view: View, max_pixels: int) -> None:
    """Refuse icons that hold more than they tell: a byte says their size, at most 256 x 256."""
    [n_entries] = view.unpack("<H", 4)
    if n_entries > MOST_ICONS:
        reason = f"it is an icon of {n_entries:,} images; at most {MOST_ICONS} are read."
        raise ImageError(reason)
    for entry in range(n_entries):
        [at] = view.unpack("<I", 6 + 16 * entry + 12)
        if view.take(at, 8) == png.MAGIC:
            png.check_at(view, at, max_pixels)
        elif at < view.size:
            _check_bitmap(view, at, max_pixels, halved=True)


def is_bmp(head: bytes) -> bool:
    """Tell a bitmap of Windows."""
    return head.startswith(b"BM")


def check_bmp(view: View, max_pixels: int) -> None:
    """Refuse a bitmap that is too large, or too large to be decoded run by run."""
    _check_bitmap(view, 14, max_pixels)


def is_dib(head: bytes) -> bool:
    """Tell a bitmap without the header of its file."""
    return int.from_bytes(head[:4], "little") in _DIB_HEADS


def check_dib(view: View, max_pixels: int) -> None:
    """Refuse as `check_bmp`."""
    _check_bitmap(view, 0, max_pixels)


def _check_bitmap(view: View, at: int, max_pixels: int, *, halved: bool = False) -> None:
    """
    Refuse by the header of a bitmap.

    halved  whether half of the rows are a mask, as in icons
    """
    [length] = view.padded("<I", at)
    if length == _OLD_DIB:
        width, height = view.padded("<HH", at + 4)
        compression = 0
    else:
        width, height, compression = view.padded("<Ii4xI", at + 4)
    height = abs(height) // 2 if halved else abs(height)
    check_pixels("a bitmap", width, height, max_pixels)
    if compression in _RUN_LENGTHS:
        _check_interpreted(_INTERPRETED["bmp_rle"], width * height)


def is_ppm(head: bytes) -> bool:
    """Tell a portable map: PBM, PGM, PPM, PFM."""
    return head[:1] == b"P" and head[1:2] in {*(b"%d" % n for n in range(7)), b"f", b"y"}


def check_ppm(view: View, max_pixels: int) -> None:
    """Refuse floods of comments and of gaps, which are read byte by byte."""
    del max_pixels  # the file tells its size as it is opened, before anything is decoded
    head = view.take(0, _LONGEST_PPM_HEAD)
    if len(head) == _LONGEST_PPM_HEAD and _PPM_HEAD.match(head) is None:
        reason = f"it is a PPM whose header is longer than {_LONGEST_PPM_HEAD:,} bytes."
        raise ImageError(reason)
    at, n_comments = 0, 0
    while head[1:2] in _PLAIN and (at := view.find(_COMMENT, at, 0) + 1):
        n_comments += 1
        if n_comments > MOST_COMMENTS:
            reason = f"it is a PPM with more than {MOST_COMMENTS:,} comments. Save it anew."
            raise ImageError(reason)


def check_interpreted(codec: str, n_samples: int) -> None:
    """
    Refuse an image that is opened but not decoded, where decoding it is left to Python.

    codec  what Pillow calls the way its pixels are packed
    """
    kind = _INTERPRETED.get(codec)
    if kind is not None:
        _check_interpreted(kind, n_samples)


def _check_interpreted(kind: str, n_samples: int) -> None:
    if n_samples > MOST_INTERPRETED:
        reason = (
            f"it is {kind} with {n_samples:,} samples; of those at most {MOST_INTERPRETED:,} are "
            "read. Save it as PNG."
        )
        raise ImageError(reason)
