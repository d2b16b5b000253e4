"""
What a model's files hold: the fingerprint that makes its vectors comparable with stored ones, and
the identity of a graph, by which open sessions are shared.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.kinds import IMAGE, LATE_MULTIMODAL
from fastembed_stream.model import Model
from fastembed_stream.recipe import Recipe

__all__ = ["Stamp", "fingerprint", "graph_identity", "stamp"]

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""What changes when a file does: device, inode, size, and the times of both kinds of change."""

# Counted up when the digits of the same model would change: stored vectors are compared by them.
_FORMAT = 1
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_PIXEL_FILES = ("preprocessor_config.json", "processor_config.json")
# Read whole up to here; of longer files both ends, since a retrained or requantized model differs
# in them too, and opening must not read gigabytes.
_WHOLE_BYTES = 64 << 20
_END_BYTES = 16 << 20
_BLOCK = 1 << 20

_LOCATION = re.compile(rb"\x0a\x08location\x12((?:[\x80-\xff]*)[\x00-\x7f])", re.DOTALL)
"""
How a graph names a file of external data: protobuf's StringStringEntryProto with the key
"location", up to the length of its value (onnx.proto, TensorProto.external_data).
"""


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
    a process while nothing about them changes.

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


def graph_identity(graph: Path) -> bytes:
    """
    Tell graphs apart by what they hold, their external data too.

    Copies are the same graph. Only what is not read whole, a file above 64 MiB, is also told by
    which file it is; and external data, since ONNX Runtime maps it: who overwrites it in place
    changes the sessions that have it open, and nobody else's.

    raises  OSError if the graph cannot be read
    """
    state = hashlib.blake2b(digest_size=32)
    external = (graph.parent / name for name in _external_data(graph, stamp(graph)))
    for path in (graph, *external):
        if path.is_file():  # ONNX Runtime says best what it misses
            state.update(_content(path))
            if path != graph or path.stat().st_size > _WHOLE_BYTES:
                state.update(repr(stamp(path)).encode())
    return state.digest()


def stamp(path: Path) -> Stamp:
    """Tell what changes when a file does; a time that was set back still changes the other."""
    known = path.stat()
    return (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns)


@lru_cache(maxsize=256)
def _external_data(graph: Path, known: Stamp) -> tuple[str, ...]:  # noqa: ARG001  remembered by it
    if graph.stat().st_size == 0:
        return ()
    with (
        graph.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        names = set()
        for found in _LOCATION.finditer(content):
            size = _varint(found[1])
            name = content[found.end() : found.end() + size]
            names.add(name.decode("utf-8", "replace"))
    return tuple(sorted(names))


def _varint(digits: bytes) -> int:
    """Read protobuf's variable-length number: seven bits a byte, the lowest first."""
    return sum((digit & 0x7F) << (7 * place) for place, digit in enumerate(digits))


def _content(path: Path) -> bytes:
    return _digest(path, path.stat().st_size, stamp(path))


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, known: Stamp) -> bytes:  # noqa: ARG001
    # The stamp is there to be remembered by: a file that changes is read again.
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
