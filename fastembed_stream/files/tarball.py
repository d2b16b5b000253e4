"""Model files from a .tar.gz on a web server."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tarfile
import zlib
from pathlib import Path

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.files.archive import ArchiveError, checked_members, opened_archive
from fastembed_stream.files.fetching import (
    Fetching,
    is_offline,
    locked,
    offline_error,
    own_folder,
    safe_name,
    writing_to,
)
from fastembed_stream.files.folders import building, is_whole, sizes_in
from fastembed_stream.files.transfer import Digest, Remote, download, shown
from fastembed_stream.model import Model, Tarball

__all__ = ["locate_tarball"]

# What reading a damaged archive raises: some of its headers are numbers and texts that are parsed,
# and headers of headers are read by a function that calls itself.
_DAMAGE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    struct.error,
    ArithmeticError,
    LookupError,
    RecursionError,
    UnicodeError,
)


class _DamagedError(Exception):
    """An archive that cannot be read to its end. Never leaves this module."""


def locate_tarball(model: Model, source: Tarball, fetching: Fetching) -> Path:
    """
    Give the folder that a tarball unpacks to, fetching and unpacking it first if needed.

    What was unpacked stays: a change behind the URL is noticed only through another `sha256`.

    Raises ModelFilesError.
    """
    # By content where that is known, so that a new archive behind an old URL gets a new folder.
    key = source.sha256 or hashlib.sha256(source.url.encode()).hexdigest()
    stem = source.url.rsplit("/", 1)[-1].split("?")[0].removesuffix(".tar.gz")
    target = own_folder(fetching) / "tarballs" / f"{safe_name(stem)}-{key[:16]}"
    if not is_whole(target):
        if is_offline(fetching):
            lack = f"{model.model_file} is missing"
            raise offline_error(model, lack, shown(source.url), fetching)
        with locked(f"tarball-{target.name}", fetching), writing_to(target.parent):
            if not is_whole(target):
                _fetch(source, target, fetching)
    return _folder_with(model, target, source)


def _fetch(source: Tarball, target: Path, fetching: Fetching) -> None:
    digest = Digest(kind="sha256", hex=source.sha256) if source.sha256 else None
    remote = Remote(url=source.url, digest=digest)
    archive = target.with_name(f"{target.name}.tar.gz")
    try:
        download(remote, archive, fetching)
        try:
            _unpack(archive, target, source.url)
        except _DamagedError:
            # Without a known hash only unpacking shows damage; then it is fetched once more.
            download(remote, archive, fetching)
            _unpack(archive, target, source.url)
    except _DamagedError as error:
        msg = f"{shown(source.url)} does not unpack ({error}): it is not a whole .tar.gz."
        raise ModelFilesError(msg) from error
    finally:
        archive.unlink(missing_ok=True)


def _unpack(archive: Path, target: Path, url: str) -> None:
    """Unpack beside the target, which appears in one step."""
    if not hasattr(tarfile, "data_filter"):
        msg = "Unpacking needs a Python with `tarfile.data_filter`: 3.10.12, 3.11.4 or later."
        raise ModelFilesError(msg)
    with building(target) as new:
        try:
            with opened_archive(archive) as (tar, most):
                # Listed as a whole first: what is refused leaves nothing behind.
                members = checked_members(tar, most)
                tar.extractall(new, members, filter="data")
        except (ArchiveError, tarfile.FilterError) as error:
            msg = f"{shown(url)} is refused: {error}. Use another source."
            raise ModelFilesError(msg) from error
        except _DAMAGE as error:
            raise _DamagedError(error) from error


def _folder_with(model: Model, target: Path, source: Tarball) -> Path:
    """Give the root of what was unpacked, or the folder in it that holds the model."""
    inside = sorted(path for path in target.iterdir() if path.is_dir())
    for folder in (target, *inside):
        if all((folder / name).is_file() for name in model.files):
            return folder
    found = ", ".join(list(sizes_in(target))[:20]) or "nothing"
    msg = (
        f"{shown(source.url)} does not hold {', '.join(model.files)} of model {model.name!r} in "
        f"one folder; it holds {found}. Correct `model_file` and `other_files`."
    )
    raise ModelFilesError(msg)
