"""Git LFS pointers: what lies in place of a large file until it is pulled."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastembed_stream.errors import ModelFilesError

__all__ = ["refuse_pointers"]

_BEGINNING = b"version https://git-lfs.github.com/spec/"
_MOST_BYTES = 1024
"""The specification has pointers below this size."""


def refuse_pointers(paths: Iterable[Path]) -> None:
    """Raise ModelFilesError that names the files that are pointers, if any is."""
    pointers = [path for path in paths if _is_pointer(path)]
    if pointers:
        names = ", ".join(path.name for path in pointers)
        msg = (
            f"{names} in {pointers[0].parent} holds {pointers[0].stat().st_size} bytes of text "
            "that point to the real file in Git LFS. Run there: git lfs pull"
        )
        raise ModelFilesError(msg)


def _is_pointer(path: Path) -> bool:
    try:
        if path.stat().st_size >= _MOST_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False
