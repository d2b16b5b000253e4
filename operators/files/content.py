"""
What a file says, whether it is packed or not, and whether somebody still writes to it.

What it is stands in its first bytes, not in its name.
"""

from __future__ import annotations

import fcntl
import gzip
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from fastembed_stream.errors import SettingError
from operators.outages import BrokenFlowError

__all__ = ["Content", "being_written", "is_packed", "open_content", "reading"]

_GZIP = b"\x1f\x8b"
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60)))
"""A frame, and the sixteen marks of one to skip; no text begins with either, nor with gzip's."""

Content = BinaryIO


def is_packed(path: Path) -> bool:
    """Tell whether a file's bytes have to be unpacked before they are lines."""
    return _unpacker(path) is not None


def open_content(path: Path) -> Content:
    """
    Open a file for what it says.

    raises  SettingError where the package that unpacks it is not installed
    """
    unpacker = _unpacker(path)
    return path.open("rb") if unpacker is None else unpacker(path)


@contextmanager
def reading(path: Path, where: Callable[[], str]) -> Iterator[None]:
    """
    Turn what a packed file can lack or have too much into one sentence that names it.

    where   says how far it was read
    raises  BrokenFlowError
    """
    damage: tuple[type[Exception], ...] = (zlib.error, gzip.BadGzipFile, *_zstd_errors())
    try:
        yield
    except EOFError as error:
        msg = (
            f"{path} ends in the middle, after {where()}: it is cut off, or not yet whole. Bring "
            "all of it; a restart goes on from the last commit."
        )
        raise BrokenFlowError(msg) from error
    except damage as error:
        msg = f"{path} is damaged after {where()}: {error}. Bring it again; a restart goes on."
        raise BrokenFlowError(msg) from error


def being_written(file: Content) -> bool:
    """
    Tell whether some process has a file open for writing; False where the system cannot tell.

    Linux grants a lease on reading only where nobody writes.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # Who opens it in the moment of the lease is signalled by SIGIO, which would end a process.
        fcntl.fcntl(file.fileno(), fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file.fileno(), fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a file system without leases
        return False
    with suppress(OSError):
        fcntl.fcntl(file.fileno(), fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _unpacker(path: Path) -> Callable[[Path], Content] | None:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(_GZIP):
        return _gunzipped
    return _unzstd if head.startswith(_ZSTD) else None


def _gunzipped(path: Path) -> Content:
    return cast("Content", gzip.open(path, "rb"))


def _unzstd(path: Path) -> Content:
    try:
        from backports import zstd
    except ImportError as error:
        msg = f'{path} is packed by zstd: pip install "fastembed-stream[zstd]", or unpack it.'
        raise SettingError(msg) from error
    return cast("Content", zstd.open(path, "rb"))


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        from backports import zstd
    except ImportError:
        return ()
    return (zstd.ZstdError,)
