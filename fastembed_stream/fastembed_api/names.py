"""fastembed's small values and types, by its names."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fastembed_stream.errors import SettingError
from fastembed_stream.files.fetching import Fetching, cache_root
from fastembed_stream.runtime import Runtime
from fastembed_stream.values import Array

if TYPE_CHECKING:
    from fastembed_stream.runtime import Device as RuntimeDevice

__all__ = [
    "Device",
    "NumpyArray",
    "OnnxProvider",
    "PathInput",
    "define_cache_dir",
    "runtime_of",
]

NumpyArray: TypeAlias = Array
OnnxProvider: TypeAlias = str | tuple[str, dict[str, object]]
PathInput: TypeAlias = str | Path


class Device(str, Enum):
    """Where to run: fastembed's names."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


def define_cache_dir(cache_dir: str | None = None) -> Path:
    """Give the folder that keeps fetched models, and make it where it is absent."""
    folder = cache_root(Fetching(cache_dir=Path(cache_dir) if cache_dir else None))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def runtime_of(
    *,
    threads: int | None,
    providers: Sequence[OnnxProvider] | None,
    cuda: bool | Device,
    device_ids: list[int] | None,
) -> Runtime:
    """Say with a `Runtime` what fastembed's arguments say."""
    if providers is not None:
        named = [(item, {}) if isinstance(item, str) else item for item in providers]
        return Runtime(
            providers=tuple(
                (name, tuple((key, str(value)) for key, value in options.items()))
                for name, options in named
            ),
            threads=threads,
        )
    devices: dict[object, RuntimeDevice] = {
        True: "cuda",
        False: "cpu",
        Device.CUDA: "cuda",
        Device.CPU: "cpu",
        Device.AUTO: "auto",
    }
    device = devices.get(cuda)
    if device is None:
        msg = f"cuda={cuda!r}: expected True, False, or one of {[d.value for d in Device]}."
        raise SettingError(msg)
    ids = () if device == "cpu" else tuple(device_ids or ())
    return Runtime(device=device, threads=threads, device_ids=ids)
