"""
Images for the stages that embed them, from wherever a message says they are.

What a text in a field means is told, never guessed: base64, the path of a file, or a URL. A text
that is read as what it is not is a failure, and opens no door.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bytewax.dataflow import operator

from fastembed_stream.errors import SettingError
from operators.fetching import FetchError, fetched
from operators.metrics import FAILURES
from operators.records import Batch, Batches, Failure, Record, Split
from operators.stages import StageLimits, is_outage, run_stages
from operators.web import Web

__all__ = ["FetchImages", "ImageAs", "ImageRefusedError", "fetch_images", "from_base64"]

ImageAs: TypeAlias = Literal["bytes", "base64", "path", "url"]
"""What stands in an image field: the image's file itself, or a text that leads to it."""

_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w.+=-]+)*;base64,", re.IGNORECASE | re.ASCII)
_LONGEST_PREFIX = 200

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # else opening a pipe waits for whoever writes it
_BINARY = getattr(os, "O_BINARY", 0)


class ImageRefusedError(ValueError):
    """An image that is not taken: not there, too large, or where nobody may look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchImages:
    """
    Put an image's bytes where a record has a text that leads to it.

    given_as   how a text is read: 'base64' (with or without 'data:image/...;base64,' before it),
               'path' or 'url'; 'bytes' takes no text. Bytes stay as they are
    reads      name of the field; the bytes take its place
    folders    where paths may lead, symbolic links followed; a relative one starts at the first
    web        where URLs may lead; None fetches none
    max_bytes  of one image that is no URL; those have their own limit in `web`

    Use it in one tuple of `run_stages` with the stage that embeds: images then live for a batch
    only, and never in the recovery store. Memory: windows of few records, since a batch may hold
    `max_bytes` for each.

    An image that is refused or not there fails its record alone. So does one whose host stays
    away, busy (429) or broken (5xx) through `web.attempts` within `web.timeout_s`: a host of
    strangers may never come back, and must not stop the flow. The dead letter keeps the message.
    A batch takes at most `records / web.at_once * web.timeout_s` seconds: keep it below
    `StageLimits.batch_timeout_s`. What is wrong with this machine (no sockets, no memory, no
    network, a disk that fails, an allowed folder that is gone) is an outage, and fails no record.
    Whether it is the network or the one host, where no way leads to it, a host tells that has
    answered before: see `fetched`.
    """

    given_as: ImageAs
    reads: str = "image"
    folders: tuple[Path, ...] = ()
    web: Web | None = None
    max_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.given_as not in get_args(ImageAs):
            known = ", ".join(map(repr, get_args(ImageAs)))
            msg = f"FetchImages(given_as={self.given_as!r}): expected one of {known}."
            raise SettingError(msg)
        if not self.reads or self.max_bytes < 1:
            msg = (
                f"FetchImages(reads={self.reads!r}, max_bytes={self.max_bytes}): expected the name "
                "of a field, and at least 1."
            )
            raise SettingError(msg)
        if self.given_as == "path" and not self.folders:
            msg = "FetchImages(given_as='path'): which folders may be read? Name them in folders."
            raise SettingError(msg)
        if self.given_as == "url" and self.web is None:
            msg = "FetchImages(given_as='url'): which hosts may be asked? Name them in web."
            raise SettingError(msg)
        for folder in self.folders:
            if not folder.is_dir():
                msg = f"FetchImages(folders): {folder} is not a folder. Make it, or name another."
                raise SettingError(msg)

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return f"fetch {self.reads}"

    def __call__(self, batch: Batch) -> Batch:
        """Fetch the images of a batch; one that cannot be had fails its record alone."""
        found = self._fetched(batch)
        records: list[Record] = []
        failures: list[Failure] = []
        for record in batch.records:
            try:
                image = self._image(record, found)
                records.append(replace(record, fields={**record.fields, self.reads: image}))
            except Exception as error:  # the border that turns an error into a Failure
                if is_outage(error):
                    raise
                FAILURES.labels(self.name).inc()
                failures.append(Failure.of(record.origin, self.name, error))
        return Batch(records=tuple(records), failures=batch.failures + tuple(failures))

    def _fetched(self, batch: Batch) -> Mapping[str, bytes | FetchError]:
        """Fetch all URLs of a batch together."""
        if self.given_as != "url" or self.web is None:
            return {}
        values = (record.fields.get(self.reads) for record in batch.records)
        urls = [value for value in values if isinstance(value, str)]
        return fetched(self.web, urls) if urls else {}

    def _image(self, record: Record, found: Mapping[str, bytes | FetchError]) -> bytes:
        value = record.fields.get(self.reads)
        match value, self.given_as:
            case bytes(), _:
                return _within(value, self.max_bytes)
            case str(), "base64":
                return from_base64(value, self.max_bytes)
            case str(), "path":
                return self._read(value)
            case str(), "url":
                answer = found[value]
                if isinstance(answer, FetchError):
                    raise answer
                return answer
        held = ", ".join(record.fields) or "none"
        got = "text" if isinstance(value, str) else "nothing"
        msg = (
            f"Field {self.reads!r} of record {record.key!r} is {got}; expected an image as "
            f"{self.given_as}. It has the fields {held}."
        )
        raise TypeError(msg)

    def _read(self, text: str) -> bytes:
        """Read a file below one of the folders."""
        if not text or "\0" in text or "://" in text:
            msg = f"{text[:80]!r} is not the path of a file."
            raise ImageRefusedError(msg)
        tops = [folder.resolve() for folder in self.folders]
        path = (tops[0] / text).resolve()
        top = next((top for top in tops if path.is_relative_to(top)), None)
        if top is None:
            msg = f"The path {text[:200]!r} leads out of the folders that may be read."
            raise ImageRefusedError(msg)
        try:
            return _content(path, text, self.max_bytes)
        except FileNotFoundError as error:
            if not top.is_dir():
                gone = f"The folder {top} is gone: is its disk mounted?"
                raise ConnectionError(gone) from error
            msg = f"There is no file {text[:200]!r}."
            raise ImageRefusedError(msg) from error


@operator
def fetch_images(
    step_id: str,
    up: Batches,
    *,
    stage: FetchImages,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Put an image's bytes on each record, from base64, a file or the web.

    Delivery: that of `run_stages`. A repeat fetches again, and a file or a host may give another
    image by then.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)


def from_base64(text: str, max_bytes: int) -> bytes:
    """
    Unpack an image.

    raises  ImageRefusedError for what is no base64, empty, or larger than `max_bytes`

    >>> from_base64("data:image/png;base64,aGk=", 10)
    b'hi'
    """
    start = 0
    if text[:5].lower() == "data:":
        prefix = _DATA_URL.match(text, 0, _LONGEST_PREFIX)
        if prefix is None:
            msg = f"The data URL starts with {text[:40]!r}; expected 'data:image/...;base64,'."
            raise ImageRefusedError(msg)
        start = prefix.end()
    packed = "".join(text[start:].split()).rstrip("=")
    if len(packed) * 3 // 4 > max_bytes:
        return _within(b"", max_bytes, len(packed) * 3 // 4)
    try:
        image = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError as error:
        msg = f"The image is not base64: {error}. It starts with {text[:40]!r}."
        raise ImageRefusedError(msg) from error
    return _within(image, max_bytes)


def _within(image: bytes, max_bytes: int, n_bytes: int | None = None) -> bytes:
    n_bytes = len(image) if n_bytes is None else n_bytes
    if n_bytes > max_bytes:
        msg = f"The image has {n_bytes:,} bytes, more than max_bytes={max_bytes:,}."
        raise ImageRefusedError(msg)
    if not n_bytes:
        msg = "The image is empty (0 bytes)."
        raise ImageRefusedError(msg)
    return image


def _content(path: Path, told: str, max_bytes: int) -> bytes:
    # The path is resolved; what has become a link since is refused.
    with _opened(path) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            msg = f"{told[:200]!r} is not a file."
            raise ImageRefusedError(msg)
        _within(b"", max_bytes, found.st_size)
        with open(file, "rb", closefd=False) as content:
            return _within(content.read(max_bytes + 1), max_bytes)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | _NO_LINK | _NO_WAIT | _BINARY)
    try:
        yield file
    finally:
        os.close(file)
