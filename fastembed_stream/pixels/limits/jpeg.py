"""
JPEG: as much work as scans times pixels, whatever the scans hold.

A scan without data takes ten bytes and passes over all pixels. Libraries of images draw the same
line: libvips and libtiff read 100 scans; encoders write about ten.
"""

from __future__ import annotations

import re

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = ["check", "is_mine"]

MOST_SCANS = 100
MOST_SEGMENTS = 4_096
MOST_JUNK = 1 << 20
"""Bytes that belong to nothing, before the first scan: Pillow passes them one by one."""

_EOI, _SOS = 0xD9, 0xDA
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
"""Markers that tell a size; of the others, C4 and CC bring tables and C8 is kept for later."""

_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, RST0 to RST7, SOI."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What ends the data of a scan; zeros stand for the byte FF, D0 to D7 are restarts within it."""


def is_mine(head: bytes) -> bool:
    """Tell a JPEG file, which may hold several images (MPO)."""
    return head.startswith(b"\xff\xd8\xff")


def check(view: View, max_pixels: int) -> None:
    """Refuse a file of too many scans or segments, or one that tells two sizes."""
    n_scans = n_segments = n_frames = n_junk = 0
    at = 2
    while (found := view.find(_MARKER, at, 1)) >= 0:
        n_junk += 0 if n_scans else found - at
        [marker] = view.take(found + 1, 1)
        at = found + 2
        if marker == _EOI:
            return
        if marker in _BARE:
            continue
        n_segments += 1
        if marker == _SOS:
            n_scans += 1
        elif marker in _FRAMES and not n_scans:
            n_frames += 1
            height, width = view.padded(">HH", at + 3)
            check_pixels("a JPEG", width, height, max_pixels)
        _check_counts(n_scans, n_segments, n_frames, n_junk)
        length = view.take(at, 2)
        # A segment's length counts itself; one that is shorter is damaged, which Pillow tells.
        at += max(int.from_bytes(length, "big"), 2)


def _check_counts(n_scans: int, n_segments: int, n_frames: int, n_junk: int) -> None:
    told = None
    if n_scans > MOST_SCANS:
        told = f"more than {MOST_SCANS} scans"
    elif n_segments > MOST_SEGMENTS:
        told = f"more than {MOST_SEGMENTS:,} segments"
    elif n_frames > 1:
        told = "more than one frame header"
    elif n_junk > MOST_JUNK:
        told = f"more than {MOST_JUNK:,} bytes that belong to nothing before its pixels"
    if told is not None:
        reason = f"it is a JPEG with {told}; an ordinary one has fewer. Save it anew."
        raise ImageError(reason)
