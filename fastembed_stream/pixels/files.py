"""Images that come as open files or as bytes of many types, held for the lanes to decode."""

from __future__ import annotations

import os
from io import UnsupportedOperation
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from fastembed_stream.errors import ImageError
from fastembed_stream.rows import is_file, is_text_file

if TYPE_CHECKING:
    from PIL import Image

    from fastembed_stream.values import ImageFile, ImageInput

HeldImage: TypeAlias = "str | Path | bytes | Image.Image"
"""An image that is all there, or in a file of its own."""

__all__ = ["HeldImage", "held", "is_image"]


def is_image(value: object) -> bool:
    """Tell one image from several."""
    from PIL import Image

    one = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(value, one) or is_file(value)


def held(image: ImageInput) -> HeldImage:
    """
    Give an image that nobody changes or closes before a lane decodes it.

    returns  bytes for what holds bytes or gives them; all else as it came
    raises   ImageError for a file that is closed, or that gives no bytes; OSError where it is an
             outage
    """
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, os.PathLike) and not isinstance(image, Path):
        return Path(os.fsdecode(image))
    return _read(cast("ImageFile", image)) if is_file(image) else cast("HeldImage", image)


def _read(file: ImageFile) -> bytes:
    """Read a whole file, whatever was read of it before, and leave it as it was."""
    if is_text_file(file):
        reason = "it is a file that was opened as text; open it in binary mode, such as 'rb'."
        raise ImageError(reason)
    try:
        stood = _from_the_beginning(file)
        try:
            read: object = file.read()
        finally:
            if stood is not None:
                file.seek(stood)  # type: ignore[attr-defined]  # it told where it stands
    except ValueError as error:
        is_for_writing = isinstance(error, UnsupportedOperation)
        why = "it is open for writing only" if is_for_writing else str(error).rstrip(".")
        reason = f"its file cannot be read: {why}. Hand in an open file, or its bytes."
        raise ImageError(reason) from error
    if isinstance(read, bytes | bytearray | memoryview):
        return bytes(read)
    close = getattr(read, "close", None)  # what waits to be awaited would complain
    if callable(close):
        close()
    reason = f"its read() gave {type(read).__name__}; expected bytes. Hand in the bytes."
    raise ImageError(reason)


def _from_the_beginning(file: ImageFile) -> int | None:
    """Go to the beginning; tell where the file stood, None where it goes forward only."""
    seekable = getattr(file, "seekable", None)
    if not hasattr(file, "seek") or not hasattr(file, "tell") or (seekable and not seekable()):
        return None
    stood = file.tell()
    file.seek(0)
    return cast("int", stood)
