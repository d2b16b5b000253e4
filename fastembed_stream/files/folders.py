"""Folders of model files: those of the user, which are only read, and ours, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.files.fetching import Fetching, locked, own_folder, safe_name, writing_to
from fastembed_stream.model import Model

__all__ = [
    "SIDE_FILES",
    "building",
    "check_folder",
    "first_damage",
    "in_one_folder",
    "is_whole",
    "link",
    "read_sizes",
    "sizes_in",
    "write_sizes",
]

SIDE_FILES = (
    "config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What is taken along beside `model.files` wherever the source has it."""

# Marks a folder as ours, and says what must be in it.
_SIZES = ".fastembed_stream.json"
_N_SHOWN = 20


def check_folder(model: Model, folder: Path) -> Path:
    """
    Give the user's folder if it has every file of the row; nothing is written to it.

    Raises ModelFilesError that names the first missing file and what is there instead.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        msg = (
            f"The folder {folder} for model {model.name!r} {what}. Give the folder that holds "
            f"{next(iter(model.files), model.name)!r}."
        )
        raise ModelFilesError(msg)
    for name in model.files:
        if not (folder / name).is_file():
            msg = (
                f"Model {model.name!r} needs {name!r}, which is not in {folder}. There is: "
                f"{_contents(folder)}. Give the folder above {name!r}, or correct `model_file` "
                "and `other_files` of the model's row."
            )
            raise ModelFilesError(msg)
    return folder


def in_one_folder(model: Model, folder: Path, fetching: Fetching) -> Path:
    """
    Give a folder in which the graph and its external data are plain files of one directory.

    ONNX Runtime 1.24 and later refuses external data that a symbolic link leads out of the model's
    folder, which is how the hub's client lays out its cache. Such files are linked hard, or copied
    where that cannot be done, into a folder of ours; other models keep their folder.
    """
    home = folder.resolve()
    if not model.other_files or all((home / n).resolve() == home / n for n in model.files):
        return folder
    names = [*model.files, *(n for n in SIDE_FILES if (home / n).is_file())]
    sources = {name: (home / name).resolve() for name in dict.fromkeys(names)}
    target = own_folder(fetching) / "linked" / f"{safe_name(model.name)}-{_state_of(sources)}"
    if is_whole(target):
        return target
    with locked(f"linked-{target.name}", fetching), writing_to(target.parent):
        if not is_whole(target):
            with building(target) as new:
                for name, source in sources.items():
                    link(source, new / name)
    return target


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """
    Give an empty folder that takes the place of `target` in one step if the block ends well.

    The caller holds the lock of `target`, so a folder that a killed process left is removed here.
    A `target` that was made by this function gives way; anything else is left alone.

    Raises ModelFilesError if something that was not made here stands at `target`.
    """
    if target.exists() and not (target / _SIZES).is_file():
        msg = f"{target} is in the way of a model folder and was not made here. Move it away."
        raise ModelFilesError(msg)
    new, old = (target.with_name(f".{target.name}.{end}") for end in ("new", "old"))
    _discard(new)
    new.mkdir(parents=True, exist_ok=True)
    # Marked at once, so that what is left of it is known as ours.
    write_sizes(new / _SIZES, {})
    try:
        yield new
        write_sizes(new / _SIZES, sizes_in(new))
        _discard(old)
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        _discard(new)
        raise
    _discard(old)


def link(source: Path, target: Path) -> None:
    """Put a file at `target` without a second copy where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        # Another disk, a file system without hard links, or a file of another user.
        shutil.copy2(source, target)


def is_whole(folder: Path) -> bool:
    """Whether a folder made by `building` still has every file in its size."""
    sizes = read_sizes(folder / _SIZES)
    return bool(sizes) and first_damage(folder, sizes) is None


def first_damage(folder: Path, sizes: Mapping[str, int | None]) -> str | None:
    """
    Say which file is missing or not as long as it should be; None if all are well.

    sizes  bytes by name; None where the length is not known, then it must not be empty
    """
    for name, size in sizes.items():
        try:
            n_bytes = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if size is None and n_bytes == 0:
            return f"{name} is empty"
        if size is not None and n_bytes != size:
            return f"{name} has {n_bytes} bytes instead of {size}"
    return None


def sizes_in(folder: Path) -> dict[str, int]:
    """Give the length of every file in a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SIZES)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def read_sizes(path: Path) -> dict[str, int]:
    """Give the recorded lengths, or none if the record is absent or unreadable."""
    try:
        sizes = json.loads(path.read_bytes())["sizes"]
        return {str(name): int(size) for name, size in sizes.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # A record that cannot be read is as good as none: what it covers is checked anew.
        return {}


def write_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    """Record lengths by name; a reader sees the old record or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"sizes": dict(sizes)}, indent=1), encoding="utf-8")
    part.replace(path)


def _discard(folder: Path) -> None:
    """Remove a folder that `building` made; nothing else is ever removed."""
    if (folder / _SIZES).is_file():
        shutil.rmtree(folder)


def _state_of(sources: Mapping[str, Path]) -> str:
    """Name a set of files by where and what they are, so that a changed one gets a new folder."""
    state = hashlib.blake2b(digest_size=8)
    for name, path in sources.items():
        known = path.stat()
        which = (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns)
        state.update(repr((name, str(path), *which)).encode())
    return state.hexdigest()


def _contents(folder: Path) -> str:
    # Bounded, because the folder may turn out to be somebody's home.
    files = (path for path in islice(folder.rglob("*"), 1000) if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in islice(files, _N_SHOWN + 1))
    if not names:
        return "nothing"
    return ", ".join(names[:_N_SHOWN]) + (", and more" if len(names) > _N_SHOWN else "")
