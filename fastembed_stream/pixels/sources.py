"""
An image from wherever it comes, as RGB: paths, bytes, base64 text, images that Pillow opened.

Colours are fastembed's, which are those of Pillow's conversion: alpha is dropped, a palette looked
up, CMYK converted without a profile, and of an animation the first frame counts. One thing is
better: grayscale of 16 bits keeps its shades, where fastembed makes all above 255 white.
"""

from __future__ import annotations

import binascii
import errno
import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.files import held
from fastembed_stream.pixels.limits import check_codec, check_exif, check_file_of, check_work
from fastembed_stream.pixels.quiet import quiet
from fastembed_stream.threads import ForkSafeLock

if TYPE_CHECKING:
    from PIL import Image

    from fastembed_stream.pixels.files import HeldImage
    from fastembed_stream.pixels.steps import Size
    from fastembed_stream.values import ImageInput

__all__ = ["ImageReader", "path_of"]

_BASE64_SIGNATURES = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK")
"""How JPEG, PNG, GIF, WebP and TIFF files (of both byte orders) start in base64."""

_BASE64_TEXT = re.compile(r"[A-Za-z0-9+/\s]{48,}={0,2}\s*")
"""No file name is so long, without a dot, and starts with a signature."""

_DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)

_FORMATS = frozenset(
    {
        "AVIF",
        "BMP",
        "DIB",
        "GIF",
        "ICO",
        "JPEG",
        "JPEG2000",
        "MPO",
        "PNG",
        "PPM",
        "TGA",
        "TIFF",
        "WEBP",
    }
)
"""
What is opened. Pillow knows more, among them programs: it hands PostScript to Ghostscript, and
whoever writes to a topic would run it here.
"""

_FAULTS_OF_A_PATH = frozenset(
    {
        None,  # Pillow's own complaints about what stands in the file
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
    }
)
"""What is wrong with one file; any other number is an outage of disk, network or process."""

_SIGNATURE_BYTES = 16
"""What Pillow looks at to tell a format."""

_SIGNATURES = {
    "AVIF": (b"\0\0\0\x1cftypavif", b"\0\0\0\x20ftypavif"),
    "GIF": (b"GIF87a", b"GIF89a"),
    "JPEG": (b"\xff\xd8\xff",),
    "JPEG2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "WEBP": (b"RIFFWEBP",),
}
"""How whole files begin, to know what is left of one that is shorter than that."""

_WEAK_SIGNATURES = frozenset({"CUR", "DIB", "FLI", "GBR", "MCIDAS", "MPEG", "PCX"})
"""Formats that begin as much else does: with a small number."""

_ORIENTATION = 0x0112
_LYING = range(5, 9)
"""EXIF orientations that swap width and height."""

_BYTE = 255

_LONGEST_PATH = 4096

_HINT = "Text that holds an image itself starts with 'data:'."

_LOADING = tuple(ForkSafeLock() for _ in range(64))
"""Two rows may be one image object, which Pillow decodes in place; others rarely share a lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReader:
    """
    Opens images that may be anything.

    upright     whether to turn an image as its EXIF orientation says
    max_pixels  most pixels of one image, checked before it is decoded and before it is resized
    """

    upright: bool
    max_pixels: int

    def size(self, image: ImageInput) -> Size:
        """Read width and height from the header; raise ImageError as `rgb` does."""
        with _blamed_on_the_image(), _opened(image, self.max_pixels) as opened:
            self.check(opened.size)
            width, height = opened.size
            if self.upright:
                check_exif(opened)
            lies = self.upright and opened.getexif().get(_ORIENTATION) in _LYING
            return (height, width) if lies else (width, height)

    def rgb(self, image: ImageInput) -> Image.Image:
        """
        Decode an image.

        returns  an image of mode RGB, 8 bits a channel; the one given if it is one already
        raises   ImageError for what is not there, not an image, damaged or too large;
                 MemoryError, and OSError where it is an outage
        """
        from PIL import ImageOps

        with _blamed_on_the_image(), _opened(image, self.max_pixels) as opened:
            self.check(opened.size)
            with _LOADING[(id(opened) >> 4) % len(_LOADING)] if opened is image else nullcontext():
                check_codec(opened)
                if opened is image:
                    check_file_of(opened, self.max_pixels)
                opened.load()
            if not self.upright:
                return _rgb(opened)
            check_exif(opened)
            return _rgb(ImageOps.exif_transpose(opened))

    def check(self, size: Size) -> None:
        """Raise ImageError for a size that nobody should make room for."""
        width, height = size
        if width < 1 or height < 1:
            reason = f"it is {width} x {height} pixels; expected at least 1 x 1."
            raise ImageError(reason)
        if width * height > self.max_pixels:
            reason = (
                f"it has, or is to be resized to, {width} x {height} pixels; at most "
                f"{self.max_pixels:,} are read. Make it smaller, or raise max_pixels."
            )
            raise ImageError(reason)


def path_of(image: ImageInput) -> str | None:
    """Tell the path of an image that is given by its path; None for text too long to be one."""
    if isinstance(image, os.PathLike):
        return os.fsdecode(image)
    if not isinstance(image, str) or len(image) > _LONGEST_PATH or _is_base64(image):
        return None
    return image


@contextmanager
def _opened(image: ImageInput, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image without decoding it; one that the caller opened stays open."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        yield image
        return
    source = _file(held(image))
    check_work(source, max_pixels)
    try:
        opened = Image.open(source, formats=_formats())
    except UnidentifiedImageError as error:
        raise ImageError(_instead_of_an_image(source)) from error
    with opened:
        yield opened


@cache
def _formats() -> tuple[str, ...]:
    """Name those that this build of Pillow has."""
    from PIL import Image

    Image.init()
    return tuple(sorted(_FORMATS & Image.OPEN.keys()))


def _file(image: HeldImage) -> Path | io.BytesIO:
    """Give what Pillow opens."""
    match image:
        case Path():
            return image
        case str() if _is_base64(image):
            return io.BytesIO(_unpacked(image))
        case str() if "://" in image[:16]:
            reason = "it is a URL, which is not fetched here. Fetch it, and hand in the bytes."
            raise ImageError(reason)
        case str():
            return Path(image)
        case bytes():
            return io.BytesIO(image)
    reason = (
        f"it is of type {type(image).__name__}; expected a path, bytes, an open file, base64 text "
        "or an image of Pillow."
    )
    raise ImageError(reason)


def _is_base64(text: str) -> bool:
    if text[:5].lower() == "data:":
        return True
    return text.startswith(_BASE64_SIGNATURES) and _BASE64_TEXT.fullmatch(text) is not None


def _unpacked(text: str) -> bytes:
    url = _DATA_URL.match(text)
    if url is None and text[:5].lower() == "data:":
        reason = f"the data URL starts with {text[:40]!r}; expected 'data:image/...;base64,'."
        raise ImageError(reason)
    packed = "".join(text[url.end() if url else 0 :].split()).rstrip("=")
    try:
        return binascii.a2b_base64(packed + "=" * (-len(packed) % 4))
    except ValueError as error:
        reason = f"its text is not base64: {error}. Encode the whole file."
        raise ImageError(reason) from error


def _instead_of_an_image(source: Path | io.BytesIO) -> str:
    """Tell what is there where Pillow finds no image."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        n_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(_SIGNATURE_BYTES)
    read = ", ".join(_formats())
    if not start:
        return f"it is empty (0 bytes); expected an image file, one of {read}."
    formats = _formats_by_signature(start) or _formats_cut_off(start)
    if ours := [name for name in formats if name in _FORMATS]:
        return (
            f"it is of the format {' or '.join(ours)}, but damaged or cut off: Pillow can make "
            f"nothing of its {n_bytes:,} bytes. Send the whole file again."
        )
    if formats:
        return (
            f"it is of the format {formats[0]}, which is not read here; expected an image file, "
            f"one of {read}."
        )
    return f"it starts with the bytes {start[:8]!r}; expected an image file, one of {read}."


def _formats_cut_off(start: bytes) -> list[str]:
    """Name the formats whose signature breaks off where the file does."""
    if len(start) == 1 or not any(start):  # much begins so
        return []
    told = start[:4] + start[8:] if start.startswith(b"RIFF") else start  # a size is between
    return [
        name
        for name, signatures in _SIGNATURES.items()
        if any(signature.startswith(told) for signature in signatures)
    ]


def _formats_by_signature(start: bytes) -> list[str]:
    """Name the formats that a file may have by its first bytes, as Pillow tells them."""
    from PIL import Image

    Image.init()
    found = []
    for name, (_, accepts) in Image.OPEN.items():
        try:
            # A text says that the format is known, and that this build of Pillow lacks it.
            is_it = accepts is not None and bool(accepts(start))
        except (IndexError, struct.error):  # too short to tell
            is_it = False
        if is_it and name not in _WEAK_SIGNATURES:
            found.append(name)
    return found


@contextmanager
def _blamed_on_the_image() -> Iterator[None]:
    """Turn whatever Pillow and its plugins raise into ImageError, but for outages."""
    try:
        with quiet():
            yield
    except (ImageError, MemoryError):
        raise
    except OSError as error:
        if error.errno not in _FAULTS_OF_A_PATH:
            raise
        raise ImageError(_complaint(error)) from error
    except Exception as error:
        raise ImageError(_complaint(error)) from error


def _complaint(error: Exception) -> str:
    from PIL import Image

    match error:
        case FileNotFoundError():
            return f"there is no such file. {_HINT}"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return (
                f"{error} Make it smaller, or raise max_pixels and Pillow's Image.MAX_IMAGE_PIXELS."
            )
        case OSError() if error.errno is not None:
            hint = f" {_HINT}" if error.errno == errno.ENAMETOOLONG else ""
            return f"the file cannot be opened: {error.strerror}.{hint}"
        case _:
            told = f"{type(error).__name__}: {error}".rstrip(".")
            return f"Pillow cannot read it ({told}). Expected a whole file; send it again."


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        shades = np.asarray(image)
        if shades.max(initial=0) > _BYTE:
            return Image.fromarray((shades >> 8).clip(0, _BYTE).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
