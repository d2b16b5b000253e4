"""
What decoding an image may cost, known before it is decoded.

A small file can ask for hours: a progressive JPEG of a million empty scans, a PNG with thousands
of packed texts, an icon that holds a page. The size that Pillow tells is not enough, so the file's
own structure is walked first, which costs far less than decoding.

    format         what it may cost
    -------------  -----------------------------------------------------------------------------
    JPEG, MPO      100 scans, each over the pixels; 4,096 segments; one frame header
    PNG            100,000 chunks, of them 64 packed ones, each of 1 MB unpacked (Pillow's limit)
    GIF            linear in bytes and pixels; the first frame alone is decoded
    WEBP           linear in bytes and pixels; the canvas is checked before room is made for it
    AVIF           pixels of the coded frames, not of the box that tells a size; 8 times max_pixels
    JPEG2000       pixels of the code stream, of all bit planes together 40 times max_pixels; its
                   tiles, precincts, code blocks and packets are counted
    TIFF           pixels of its tiles; 100,000 strips, no more than it has rows; 4,096 tags
    ICO            what its entries hold, as PNG or BMP; 256 entries
    BMP, DIB, PPM  8 million samples where Python decodes (RLE, plain text, odd ranges)
    TGA            linear in bytes and pixels

EXIF is read for the orientation alone, and has 128 KB at most. What is damaged is left to Pillow,
which tells it better.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits import avif, bitmaps, jpeg, jpeg2000, png, tiff
from fastembed_stream.pixels.limits.view import View

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_codec", "check_exif", "check_file_of", "check_work"]

MOST_EXIF = 1 << 17
"""
Bytes: room for 10,000 tags, half a second's work. Pillow 12 keeps a copy of what each points at.
"""

_HEAD = 16

_CHECKS = (
    (jpeg.is_mine, jpeg.check),
    (png.is_mine, png.check),
    (tiff.is_mine, tiff.check),
    (avif.is_mine, avif.check),
    (jpeg2000.is_mine, jpeg2000.check),
    (bitmaps.is_webp, bitmaps.check_webp),
    (bitmaps.is_icon, bitmaps.check_icon),
    (bitmaps.is_bmp, bitmaps.check_bmp),
    (bitmaps.is_dib, bitmaps.check_dib),
    (bitmaps.is_ppm, bitmaps.check_ppm),
)
"""By the first bytes, as Pillow chooses what opens a file."""


def check_work(file: Path | IO[bytes], max_pixels: int) -> None:
    """
    Refuse a file that would cost more to decode than its size tells.

    file    is read from its beginning and left wherever that ends
    raises  ImageError; OSError where the file cannot be read
    """
    if isinstance(file, Path):
        try:
            opened = file.open("rb")
        except FileNotFoundError:
            return
        with opened:
            check_work(opened, max_pixels)
        return
    view = View(file)
    head = view.take(0, _HEAD)
    for is_mine, check in _CHECKS:
        if is_mine(head):
            try:
                check(view, max_pixels)
            except (struct.error, IndexError) as error:
                reason = "its structure breaks off. Expected a whole file; send it again."
                raise ImageError(reason) from error


def check_exif(image: Image.Image) -> None:
    """Refuse EXIF that takes Pillow seconds to read; JPEG's own has at most 64 KB."""
    exif = image.info.get("exif", b"")
    if len(exif) > MOST_EXIF:
        reason = (
            f"it has {len(exif):,} bytes of EXIF; at most {MOST_EXIF:,} are read. Save it anew."
        )
        raise ImageError(reason)


def check_codec(image: Image.Image) -> None:
    """Refuse an image that is opened but not decoded, where decoding it takes Python too long."""
    from PIL import ImageFile

    if isinstance(image, ImageFile.ImageFile) and image.tile:
        samples = image.width * image.height * len(image.getbands())
        bitmaps.check_interpreted(image.tile[0][0], samples)


def check_file_of(image: Image.Image, max_pixels: int) -> None:
    """Refuse, as `check_work` does, the file of an image that somebody else opened."""
    from PIL import ImageFile

    file = image.fp if isinstance(image, ImageFile.ImageFile) and image.tile else None
    if file is None or not file.seekable():
        return
    at = file.tell()
    try:
        check_work(file, max_pixels)
    finally:
        file.seek(at)
