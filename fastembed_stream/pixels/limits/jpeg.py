"""
JPEG: as much work as scans times pixels, whatever the scans hold.

A scan without data takes ten bytes and passes over all pixels. Libraries of images draw the same
line: libvips and libtiff read 100 scans; encoders write about ten.
"""

from __future__ import annotations

import re
from collections import Counter

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = ["check", "is_mine"]

_MOST = {
    "scans": 100,
    "segments": 4_096,
    "frame headers": 1,
    # Pillow joins them and reads them in Python; the standard knows one, of 64 KB.
    "segments of EXIF": 2,
    # Before the first scan: Pillow passes them one by one.
    "bytes that belong to nothing": 1 << 20,
}

_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
"""Markers that tell a size; of the others, C4 and CC bring tables and C8 is kept for later."""

_BARE = frozenset({0x01, *range(0xD0, 0xDA)})
"""Markers without a length: TEM, RST0 to RST7, SOI, EOI."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What ends the data of a scan; zeros stand for the byte FF, D0 to D7 are restarts within it."""


def is_mine(head: bytes) -> bool:
    """Tell a JPEG file, which may hold several images (MPO)."""
    return head.startswith(b"\xff\xd8\xff")


def check(view: View, max_pixels: int) -> None:
    """Refuse a file of too many scans or segments, or one that tells two sizes."""
    found = Counter[str]()
    at = 2
    while (marker_at := view.find(_MARKER, at, 1)) >= 0:
        [marker] = view.take(marker_at + 1, 1)
        if not found["scans"]:
            found["bytes that belong to nothing"] += marker_at - at
        at = marker_at + 2
        # Tables may come as a stream of their own, with an end, before the image.
        if marker == _EOI and found["scans"]:
            return
        if marker in _BARE:
            continue
        found["segments"] += 1
        if marker == _SOS:
            found["scans"] += 1
        elif marker in _FRAMES and not found["scans"]:
            found["frame headers"] += 1
            height, width = view.padded(">HH", at + 3)
            check_pixels("a JPEG", width, height, max_pixels)
        elif marker == _APP1 and view.take(at + 2, 4) == b"Exif":
            found["segments of EXIF"] += 1
        _check_counts(found)
        length = int.from_bytes(view.take(at, 2), "big")
        # A length counts itself; one that is shorter is damaged, which Pillow tells.
        at += max(length, 2)


def _check_counts(found: Counter[str]) -> None:
    for kind, n_most in _MOST.items():
        if found[kind] > n_most:
            reason = (
                f"it is a JPEG with more than {n_most:,} {kind}; ordinary ones have fewer. Save it "
                "anew."
            )
            raise ImageError(reason)
