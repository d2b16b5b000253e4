"""
What an archive of model files may hold and cost, checked while it is read.

Nothing in an archive is believed: a megabyte can tell of exabytes, name a file a million times, or
hold a name as long as the disk. What is read is counted, not what is told.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, cast

from fastembed_stream.errors import ModelFilesError

__all__ = ["ArchiveError", "checked_members", "opened_archive"]

MOST_BYTES = 64 << 30
"""Of all that is unpacked; the largest model known here has 9 GB."""

MOST_RATIO = 100
FREE_BYTES = 16 << 20
"""Unpacked, whatever the ratio: a small archive of zeros is harmless."""

MOST_MEMBERS = 10_000
MOST_HEADERS = 16 << 20
"""Characters of what members have beside their names."""

LONGEST_PATH = 1_024
LONGEST_NAME = 255
"""Bytes of one part of a path: what file systems take."""

DEEPEST = 32

_LONGEST_READ = 1 << 20
"""Names and other headers are read as a whole; files in pieces of some kilobytes."""


class ArchiveError(ModelFilesError):
    """Says why an archive is not unpacked; whoever catches it adds where it came from."""


class _Counted:
    """The unpacked content of an archive, up to a limit."""

    def __init__(self, inner: gzip.GzipFile, most: int) -> None:
        self._inner = inner
        self._most = most

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            msg = f"it has a name or header of {size:,} bytes; at most {_LONGEST_READ:,} are read"
            raise ArchiveError(msg)
        self._check(self._inner.tell() + size)
        return self._inner.read(size)

    def seek(self, place: int) -> int:
        self._check(place)
        return self._inner.seek(place)

    def tell(self) -> int:
        return self._inner.tell()

    def _check(self, place: int) -> None:
        # Blocks of an archive are padded, so that a little more is read than is there.
        if place > self._most + _LONGEST_READ:
            msg = f"it unpacks to more than {self._most:,} bytes"
            raise ArchiveError(msg)


@contextmanager
def opened_archive(path: Path) -> Iterator[tuple[tarfile.TarFile, int]]:
    """
    Open a .tar.gz, of which no more can be read than it may hold.

    returns  the archive, and the most bytes that its files may have together
    """
    most = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * path.stat().st_size))
    with gzip.open(path, "rb") as packed:
        counted = cast("BinaryIO", _Counted(packed, most))
        with tarfile.open(fileobj=counted, mode="r:") as tar:
            yield tar, most


def checked_members(tar: tarfile.TarFile, most: int) -> list[tarfile.TarInfo]:
    """
    List what is to be unpacked.

    most     bytes of all files together
    raises   ArchiveError at the first member that has no place in a model's archive
    """
    members: list[tarfile.TarInfo] = []
    seen: dict[str, bool] = {}
    n_bytes = n_headers = 0
    for member in tar:
        if (fault := _fault(member) or _clash(member, seen)) is not None:
            msg = f"its member {_shown(member.name)} {fault}"
            raise ArchiveError(msg)
        n_bytes += max(member.size, 0)
        n_headers += sum(map(len, member.pax_headers.values()))
        if len(members) >= MOST_MEMBERS:
            msg = f"it has more than {MOST_MEMBERS:,} members"
            raise ArchiveError(msg)
        if n_bytes > most:
            msg = f"its files have more than {most:,} bytes together"
            raise ArchiveError(msg)
        if n_headers > MOST_HEADERS:
            msg = f"its headers have more than {MOST_HEADERS:,} characters together"
            raise ArchiveError(msg)
        members.append(member)
    return members


def _fault(member: tarfile.TarInfo) -> str | None:
    """
    Say what is wrong with a member; None where it may be unpacked.

    Links are refused even where they stay inside: models have none, and the standard library's
    filter has been led out of the folder through them more than once. Files with holes are told to
    be of any size.
    """
    path = PurePosixPath(member.name.replace("\\", "/"))
    is_out = path.is_absolute() or PureWindowsPath(member.name).drive or ".." in path.parts
    lengths = [len(part.encode(errors="surrogateescape")) for part in path.parts]
    is_long = sum(lengths) > LONGEST_PATH or max(lengths, default=0) > LONGEST_NAME
    faults = {
        "leads out of its folder": is_out,
        "is a file with holes": member.issparse(),
        "is neither a file nor a folder": not (member.isreg() or member.isdir()),
        "has less than no bytes": member.size < 0,
        f"has a path of {sum(lengths):,} bytes; at most {LONGEST_NAME} are for one name": is_long,
        f"lies {len(path.parts)} folders deep; at most {DEEPEST} are": len(path.parts) > DEEPEST,
        "has a name that cannot be shown": not member.name.isprintable(),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _clash(member: tarfile.TarInfo, seen: dict[str, bool]) -> str | None:
    """Say that a member takes another's place; note its own."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    is_folder = seen.get(str(path))
    if is_folder is not None and not (is_folder and member.isdir()):
        return "comes twice"
    if any(seen.get(str(folder)) is False for folder in path.parents):
        return "lies in what is a file"
    if not member.isdir() and str(path) in {"", "."}:
        return "has no name"
    seen[str(path)] = member.isdir()
    for folder in path.parents:
        seen.setdefault(str(folder), True)
    return None


def _shown(name: str) -> str:
    return repr(name if len(name) <= LONGEST_NAME else name[:80] + "...")
