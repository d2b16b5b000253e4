"""Images of a folder as messages, as if they came from Kafka."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource
from typing_extensions import override

from fastembed_stream.errors import SettingError
from operators.files.reading import Pages, ReadingPartition
from operators.pressure import reset
from operators.records import Message
from operators.shutdown import STOP
from operators.stages import is_outage

__all__ = ["IMAGE_SUFFIXES", "ImageFolderSource"]

_LOG = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class ImageFolderSource(FixedPartitionedSource[Message, tuple[int, str]]):
    """
    Image files below a folder, each a message: the value is the file.

    suffixes   which files count as images, case aside
    max_bytes  of one file; of a larger one a byte more than that is read, for the decoder to refuse

    A message's topic is the folder's name, its key the file's path below it (with /), its offset
    its place in the order of paths. Links to folders are not followed. The folder is read once, by
    one worker, as it is listed when the flow starts. A file that cannot be read is an empty value,
    which the decoder refuses, and a warning in the log.

    Delivery: the last path is kept in the recovery store with each epoch; a crash reads again from
    the last commit. Files that are added since come if their path is behind it. Each message
    carries its file's time and size as its log, so that places of two versions are not compared.

    raises  SettingError where there is no such folder
    """

    def __init__(
        self,
        folder: Path,
        pages: Pages = Pages(),  # noqa: B008  frozen
        *,
        suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
        max_bytes: int = 16 << 20,
    ) -> None:
        self._folder = folder
        self._pages = pages
        self._suffixes = tuple(suffix.lower() for suffix in suffixes)
        self._max_bytes = max_bytes
        if not folder.is_dir():
            msg = f"{folder} is not a folder. Expected one of images; name another."
            raise SettingError(msg)
        if max_bytes < 1:
            msg = f"ImageFolderSource(max_bytes={max_bytes}): expected at least 1."
            raise SettingError(msg)

    @override
    def list_parts(self) -> list[str]:
        reset()  # what an earlier flow on this thread has left
        return [self._folder.resolve().name]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: tuple[int, str] | None
    ) -> _Images:
        STOP.started = True
        paths = sorted(_below(self._folder, self._suffixes))
        return _Images(self._folder, paths, self._pages, self._max_bytes, resume_state or (0, ""))


class _Images(ReadingPartition[tuple[int, str]]):
    """A folder's paths, how many came, and the last of them."""

    def __init__(
        self,
        folder: Path,
        paths: list[str],
        pages: Pages,
        max_bytes: int,
        place: tuple[int, str],
    ) -> None:
        super().__init__(pages)
        self._folder = folder
        self._paths = paths
        self._max_bytes = max_bytes
        self._number, self._last = place
        self._next = bisect_right(paths, self._last)

    @override
    def read(self) -> Message | None:
        if self._next == len(self._paths):
            return None
        path = self._paths[self._next]
        value, log = self._content(path)
        message = Message(
            topic=self._folder.resolve().name,
            partition=0,
            offset=self._number,
            key=os.fsencode(path),
            value=value,
            log=log,
        )
        self._next, self._number, self._last = self._next + 1, self._number + 1, path
        return message

    @override
    def place(self) -> tuple[int, str]:
        return self._number, self._last

    def _content(self, path: str) -> tuple[bytes, str]:
        """Give a file's bytes, and its time and size."""
        try:
            with (self._folder / path).open("rb") as file:
                found = os.fstat(file.fileno())
                return file.read(self._max_bytes + 1), f"{found.st_mtime_ns:x}-{found.st_size:x}"
        except OSError as error:
            if is_outage(error):
                raise
            _LOG.warning("%s cannot be read: %s", self._folder / path, error)
            return b"", ""


def _below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Give the paths of regular files, with / on any system."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if name.lower().endswith(suffixes) and path.is_file():
                yield path.relative_to(folder).as_posix()
