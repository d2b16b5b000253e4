"""The fingerprint of a model: what makes its vectors comparable with stored ones."""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.model import Model
from fastembed_stream.recipes import IMAGE, LATE_MULTIMODAL, Recipe

__all__ = ["fingerprint"]

# Counted up when the digits of the same model would change: stored vectors are compared by them.
_FORMAT = 1
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_PIXEL_FILES = ("preprocessor_config.json", "processor_config.json")
# Read whole up to here; of longer files both ends, since a retrained or requantized model differs
# in them too, and opening must not read gigabytes.
_WHOLE_BYTES = 64 << 20
_END_BYTES = 16 << 20
_BLOCK = 1 << 20


def fingerprint(model: Model, folder: Path) -> str:
    """
    Give 16 hexadecimal digits that change when the files or the recipe change.

    model    the row; its recipe and dimension count, its name and source do not, so the same files
             give the same digits wherever they came from. Nor does the limit that the card states:
             the one that holds stands in tokenizer_config.json.
    folder   where `locate` found the files

    Of a recipe the family's name and what differs from its defaults count, so a later version that
    adds a field leaves the digits of the models that do not use it as they were.

    Of a file above 64 MiB the first and the last 16 MiB and the size count. Files are read once in
    a process while their path, size and time of change stay the same.

    Raises ModelFilesError if a file of the row is missing.
    """
    state = hashlib.blake2b(digest_size=8)
    state.update(repr((_FORMAT, model.dim, *_told(model.recipe))).encode())
    for name in model.files:
        if not (folder / name).is_file():
            msg = f"No fingerprint for model {model.name!r}: {name!r} is not in {folder}."
            raise ModelFilesError(msg)
        state.update(_content(folder / name))
    sees = model.kind in {IMAGE, LATE_MULTIMODAL}
    for name in (*_TOKENIZER_FILES, *(_PIXEL_FILES if sees else ())):
        if (folder / name).is_file():
            state.update(name.encode() + _content(folder / name))
    return state.hexdigest()


def _told(recipe: Recipe) -> list[str | tuple[str, object]]:
    """Give the family's name, and by name in their order the fields that are not the default."""
    values = ((each.name, getattr(recipe, each.name), each.default) for each in fields(recipe))
    told = sorted(
        (name, _plain(value))
        for name, value, default in values
        if default is MISSING or value != default
    )
    return [type(recipe).__name__, *told]


def _plain(value: object) -> object:
    """Give what reads the same in every process: a set has no order, an object an address."""
    match value:
        case frozenset():
            return tuple(sorted(value))
        case str() | int() | float() | tuple() | None:
            return value
        case _:
            named = value if callable(value) and hasattr(value, "__qualname__") else type(value)
            return f"{named.__module__}.{named.__qualname__}"


def _content(path: Path) -> bytes:
    known = path.stat()
    return _digest(path, known.st_size, known.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, mtime_ns: int) -> bytes:  # noqa: ARG001
    # The time is there to be remembered by: a file that changes is read again.
    state = hashlib.blake2b(str(size).encode(), digest_size=32)
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            while block := file.read(_BLOCK):
                state.update(block)
        else:
            state.update(file.read(_END_BYTES))
            file.seek(-_END_BYTES, 2)
            state.update(file.read(_END_BYTES))
    return state.digest()
