"""
What can go wrong in the engine, by the phase in which it shows.

A wrong name or setting is raised while things are described, a missing or damaged file when it
is opened, a lost device or a bad row while it works. Each message says what, got, expected, and
what to do.
"""

from __future__ import annotations

from typing_extensions import override

from fastembed_stream.redaction import redacted

__all__ = [
    "DeviceError",
    "FastembedStreamError",
    "ImageError",
    "ModelFilesError",
    "RowError",
    "SettingError",
    "UnknownModelError",
]


class FastembedStreamError(Exception):
    """
    The root of all errors that this project raises on purpose.

    No secret stands in one: their texts are redacted when they are made.
    """

    def __init__(self, *told: object) -> None:
        super().__init__(*(redacted(one) if isinstance(one, str) else one for one in told))


class SettingError(FastembedStreamError, ValueError):
    """A setting, an argument or a model row that cannot be right; raised before any work."""


class UnknownModelError(SettingError):
    """A model name that the catalog does not have."""


class ModelFilesError(FastembedStreamError, ValueError):
    """A model file that is missing, damaged, out of reach, or not what its row says."""


class DeviceError(FastembedStreamError, RuntimeError):
    """A device that is absent, lost or out of memory: an outage, never the fault of a row."""


class RowError(FastembedStreamError, ValueError, TypeError):
    """
    A row that cannot be read: its own fault alone, never an outage.

    It is a ValueError and a TypeError, since callers wait for either where a row is None.

    reason    what was got, what is expected, what to do
    position  which row of the call it is, counted from 0; None where it is the rows altogether
    what      what a row is: 'Text', 'Pair'

    >>> print(RowError("it is None; expected str.").at(3))
    Text 3: it is None; expected str.
    """

    def __init__(self, reason: str, position: int | None = None, what: str = "Text") -> None:
        super().__init__(reason, position, what)
        self.reason = redacted(reason)
        self.position = position
        self.what = what

    def at(self, position: int) -> RowError:
        """Give the same error with its place, and with the same cause."""
        placed = RowError(self.reason, position, self.what)
        placed.__cause__ = self.__cause__
        return placed

    def after(self, n_rows: int) -> RowError:
        """Give the same error where so many rows came before those that it was counted among."""
        return self if self.position is None else self.at(n_rows + self.position)

    @override
    def __str__(self) -> str:
        which = "Rows" if self.position is None else f"{self.what} {self.position}"
        return f"{which}: {self.reason}"


class ImageError(RowError):
    """
    An image that cannot be used: the fault of its row alone, never an outage.

    reason    what was got, what is expected, what to do
    position  which row of the call it is, counted from 0; None where there is no call
    path      the file it came from; None where it came as bytes, text or an opened image

    >>> print(ImageError("it is empty.").at(3, "cat.jpg"))
    Image 3 (cat.jpg): it is empty.
    """

    def __init__(self, reason: str, position: int | None = None, path: str | None = None) -> None:
        super().__init__(reason, position, "Image")
        self.path = None if path is None else redacted(path)
        self.args = (self.reason, position, self.path)  # a pickle is made again from them

    @override
    def at(self, position: int, path: str | None = None) -> ImageError:
        """Give the same error with its place, and with the same cause."""
        placed = ImageError(self.reason, position, path or self.path)
        placed.__cause__ = self.__cause__
        return placed

    @override
    def __str__(self) -> str:
        which = "Image" if self.position is None else f"Image {self.position}"
        where = f" ({self.path})" if self.path else ""
        return f"{which}{where}: {self.reason}"
