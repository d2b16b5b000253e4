"""fastembed's descriptions of models, by its names, and how a row is told by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from typing_extensions import assert_never, override

from fastembed_stream.errors import SettingError
from fastembed_stream.kinds import CROSS_ENCODER, SPARSE_TEXT
from fastembed_stream.model import (
    HubRepository,
    InstalledPackage,
    LocalFolder,
    Model,
    PackageData,
    Tarball,
)

if TYPE_CHECKING:
    from fastembed_stream.model import Source
    from fastembed_stream.pooling import Pooling

__all__ = [
    "BaseModelDescription",
    "DenseModelDescription",
    "ModelSource",
    "PoolingType",
    "SparseModelDescription",
    "described",
]


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
    _deprecated_tar_struct: bool = False

    def __post_init__(self) -> None:
        if self.hf is None and self.url is None:
            msg = "ModelSource needs `hf` (a hub repository) or `url` (a tarball); got neither."
            raise SettingError(msg)

    @property
    def deprecated_tar_struct(self) -> bool:
        """Tell whether a tarball holds a folder of an older name; nothing here asks."""
        return self._deprecated_tar_struct

    @property
    def source(self) -> Source:
        """Give it as a model row has it."""
        if self.hf is not None:
            return HubRepository(repo=self.hf)
        assert self.url is not None  # noqa: S101  checked at birth
        return Tarball(url=self.url)


@dataclass(frozen=True)
class BaseModelDescription:
    """What fastembed tells of every model."""

    model: str
    sources: ModelSource
    model_file: str
    description: str
    license: str
    size_in_GB: float  # noqa: N815  fastembed's key
    additional_files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DenseModelDescription(BaseModelDescription):
    """What it tells of a model that gives vectors of one length, or several of them."""

    dim: int | None = None
    tasks: dict[str, int] | None = field(default_factory=dict)


@dataclass(frozen=True)
class SparseModelDescription(BaseModelDescription):
    """What it tells of a model that gives sparse vectors."""

    requires_idf: bool | None = None
    vocab_size: int | None = None


def described(model: Model) -> BaseModelDescription:
    """Describe a row as fastembed would."""
    match model.source:
        case HubRepository(repo=repo):
            sources = ModelSource(hf=repo)
        case Tarball(url=url):
            sources = ModelSource(url=url)
        case LocalFolder(path=path):
            sources = ModelSource(url=path.absolute().as_uri())
        case InstalledPackage(package=package):
            sources = ModelSource(url=f"package:{package}")
        case PackageData():  # a copy of what the repository of that name holds
            sources = ModelSource(hf=model.name)
        case never:
            assert_never(never)
    told = (
        model.name,
        sources,
        model.model_file,
        model.description,
        model.license,
        model.size_gb,
        list(model.other_files),
    )
    match model.kind:
        case kind if kind == SPARSE_TEXT:
            needs_idf = getattr(model.recipe, "needs_idf", False) or None
            return SparseModelDescription(
                *told, requires_idf=needs_idf, vocab_size=getattr(model.recipe, "vocab_size", 0)
            )
        case kind if kind == CROSS_ENCODER:
            return BaseModelDescription(*told)
        case _:
            tasks = dict(getattr(model.recipe, "tasks", ()))
            return DenseModelDescription(*told, dim=model.dim, tasks=tasks)
