"""
Weights that PyTorch saved, read without it.

The format is the one before version 1.6: a few pickles, then each storage as its length and its
numbers. The pickles name classes of PyTorch; here each name means a function of this file, and any
other is refused, so that nothing of a file can run.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from typing_extensions import override

from fastembed_stream.errors import SettingError

__all__ = ["checked_weights"]

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; `steps` are in numbers, not bytes."""

    storage: str
    dtype: np.dtype[np.generic]
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


def checked_weights(path: Path, sha256: str) -> dict[str, NDArray[np.float32]]:
    """
    Read tensors by their names, those of whole numbers left out.

    sha256  of the file, hexadecimal
    raises  SettingError where the file is another one
    """
    with path.open("rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
        if found != sha256:
            msg = f"{path} has the SHA-256 {found}; expected {sha256}. Install the package again."
            raise SettingError(msg)
        file.seek(0)
        return _read(file)


def _read(file: BinaryIO) -> dict[str, NDArray[np.float32]]:
    magic, _version, _system = (_Unpickler(file).load() for _ in range(3))
    if magic != _MAGIC:
        msg = "The weights are in another format than PyTorch's before 1.6."
        raise SettingError(msg)
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    dtypes = {tensor.storage: tensor.dtype for tensor in tensors.values()}
    storages = {}
    for name in _Unpickler(file).load():
        size = int.from_bytes(file.read(8), "little")
        storages[name] = np.frombuffer(file.read(size * dtypes[name].itemsize), dtypes[name])
    return {
        name: _view(storages[tensor.storage], tensor)
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f"
    }


def _view(storage: NDArray[np.float32], tensor: _Tensor) -> NDArray[np.float32]:
    steps = tuple(step * storage.itemsize for step in tensor.steps)
    view = as_strided(storage[tensor.offset :], tensor.shape, steps)
    return np.array(view, dtype=np.float32)


class _Unpickler(pickle.Unpickler):
    @override
    def find_class(self, module: str, name: str, /) -> object:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _tensor
            case "torch", "FloatStorage" | "LongStorage":
                return _STORAGES[name]
        msg = f"The weights name {module}.{name}, which no weights need: they are not read."
        raise SettingError(msg)

    @override
    def persistent_load(
        self, told: tuple[str, np.dtype[np.generic], str, str, int, object]
    ) -> tuple[str, np.dtype[np.generic]]:
        _, dtype, name, *_ = told
        return name, dtype


def _tensor(
    storage: tuple[str, np.dtype[np.generic]],
    offset: int,
    shape: tuple[int, ...],
    steps: tuple[int, ...],
    *_: object,
) -> _Tensor:
    name, dtype = storage
    return _Tensor(name, dtype, offset, shape, steps)
