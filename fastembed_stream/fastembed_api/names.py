"""fastembed's small values, by its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from typing_extensions import override

from fastembed_stream.errors import SettingError
from fastembed_stream.model import HubRepository, Tarball
from fastembed_stream.session import Runtime

if TYPE_CHECKING:
    from fastembed_stream.model import Source
    from fastembed_stream.recipes import Pooling
    from fastembed_stream.session import Device as RuntimeDevice

__all__ = ["Device", "ModelSource", "OnnxProvider", "PoolingType", "runtime_of"]

OnnxProvider: TypeAlias = "str | tuple[str, dict[str, object]]"


class Device(str, Enum):
    """Where to run: fastembed's names."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


class PoolingType(str, Enum):
    """How token vectors become one: fastembed's names."""

    CLS = "CLS"
    MEAN = "MEAN"
    LAST_TOKEN = "LAST_TOKEN"  # noqa: S105  not a secret
    DISABLED = "DISABLED"

    @classmethod
    @override
    def _missing_(cls, value: object) -> PoolingType:
        """Take a name in any case, and ours too."""
        told = str(value).upper()
        for each in cls:
            if told in {each.value, _POOLINGS[each].upper()}:
                return each
        names = ", ".join(each.value for each in cls)
        msg = f"No pooling {value!r}; there are {names}."
        raise SettingError(msg)

    @property
    def pooling(self) -> Pooling:
        """Give this project's name for it."""
        return _POOLINGS[self]


_POOLINGS: dict[PoolingType, Pooling] = {
    PoolingType.CLS: "cls",
    PoolingType.MEAN: "mean",
    PoolingType.LAST_TOKEN: "last_token",
    PoolingType.DISABLED: "none",
}


@dataclass(frozen=True)
class ModelSource:
    """Where a model is: a hub repository, or the URL of a tarball."""

    hf: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if self.hf is None and self.url is None:
            msg = "ModelSource needs `hf` (a hub repository) or `url` (a tarball); got neither."
            raise SettingError(msg)

    @property
    def source(self) -> Source:
        """Give it as a model row has it."""
        if self.hf is not None:
            return HubRepository(repo=self.hf)
        assert self.url is not None  # noqa: S101  checked at birth
        return Tarball(url=self.url)


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
