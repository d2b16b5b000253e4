"""
fastembed's module paths: below this package always, and as `fastembed` where that is asked for.

No path has a file. A finder makes the module when it is imported, from the one table here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from typing_extensions import override

from fastembed_stream import fastembed_api
from fastembed_stream.errors import SettingError
from fastembed_stream.fastembed_api.unused import warn_outside

if TYPE_CHECKING:
    from importlib.metadata import Distribution, DistributionFinder

__all__ = ["VERSION", "Paths", "install_as_fastembed"]

_OURS = __name__.partition(".")[0]

VERSION = "0.9.1"
"""Of the fastembed that this package answers like."""

_TABLE: Mapping[str, str] = {
    "": "ImageEmbedding LateInteractionMultimodalEmbedding LateInteractionTextEmbedding "
    "SparseEmbedding SparseTextEmbedding TextEmbedding",
    "common": "ImageInput OnnxProvider PathInput",
    "common.model_description": "BaseModelDescription DenseModelDescription ModelSource "
    "PoolingType SparseModelDescription",
    "common.types": "Device ImageInput NumpyArray OnnxProvider PathInput",
    "common.utils": "define_cache_dir",
    "embedding": "DefaultEmbedding FlagEmbedding JinaEmbedding TextEmbedding",
    "image": "ImageEmbedding",
    "image.image_embedding": "ImageEmbedding",
    "late_interaction": "LateInteractionTextEmbedding",
    "late_interaction.late_interaction_text_embedding": "LateInteractionTextEmbedding",
    "late_interaction_multimodal": "LateInteractionMultimodalEmbedding",
    "late_interaction_multimodal.late_interaction_multimodal_embedding": (
        "LateInteractionMultimodalEmbedding"
    ),
    "postprocess": "Muvera",
    "postprocess.muvera": "Muvera",
    "rerank": "",
    "rerank.cross_encoder": "TextCrossEncoder",
    "rerank.cross_encoder.text_cross_encoder": "TextCrossEncoder",
    "sparse": "SparseEmbedding SparseTextEmbedding",
    "sparse.bm25": "Bm25",
    "sparse.sparse_embedding_base": "SparseEmbedding SparseTextEmbeddingBase",
    "sparse.sparse_text_embedding": "SparseTextEmbedding",
    "text": "TextEmbedding",
    "text.text_embedding": "TextEmbedding",
    "text.text_embedding_base": "TextEmbeddingBase",
}
"""Paths that public code imports, and the names that it finds there."""


def install_as_fastembed() -> None:
    """
    Be `fastembed` for this process: whoever imports it or looks for it from now on gets this.

    It holds for `import fastembed` and all paths below it, for `importlib.util.find_spec`, and
    for `importlib.metadata.version`, which tells the version that this package answers like. An
    installed fastembed stays where it is and is not used. To call it twice is to call it once.

    A process that is spawned starts anew: call it where that one begins too, at the top of the
    main module and outside of `if __name__ == "__main__"`. A forked process inherits it.

    raises  SettingError where fastembed itself is imported already
    """
    finder = Paths("fastembed")
    if finder in sys.meta_path:
        return
    imported = sys.modules.get("fastembed")
    if imported is not None:
        where = getattr(imported, "__file__", None) or "of no file"
        msg = (
            f"fastembed {getattr(imported, '__version__', '')} is imported already ({where}): "
            "whoever did keeps its classes. Call install_as_fastembed() before anything that "
            "imports fastembed, at the top of the program's first module."
        )
        raise SettingError(msg)
    sys.modules.pop("fastembed", None)  # a None there forbids the import
    sys.meta_path.insert(0, finder)
    if without := sorted(_gone_without()):
        msg = (
            f"{', '.join(without)} looked for fastembed earlier, found none, and goes on without. "
            "Call install_as_fastembed() before it is imported."
        )
        warn_outside(msg)


@dataclass(frozen=True, slots=True)
class Paths(MetaPathFinder, Loader):
    """
    A finder of the table's modules below a package's name.

    root  'fastembed_stream', or 'fastembed': that one is made here too, and is known as a
          distribution
    """

    root: str

    @override
    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Know a module of the table."""
        root, _, below = fullname.partition(".")
        if root != self.root or below not in _TABLE or fullname == _OURS:
            return None
        is_package = any(other.startswith(f"{below}.") for other in _TABLE) or not below
        spec = ModuleSpec(fullname, self, origin=__file__, is_package=is_package)
        spec.has_location = True  # some tell their users where it is
        return spec

    @override
    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with its names; those below it are imported when they are asked for."""
        below = module.__name__.partition(".")[2]
        names = _TABLE[below].split()
        module.__doc__ = "fastembed's path to names of fastembed_stream."
        vars(module).update({name: _named(name) for name in names}, __all__=names)
        if not below:
            vars(module).update(__version__=VERSION)

        def __getattr__(name: str) -> ModuleType:  # noqa: N807  PEP 562
            if ".".join(filter(None, (below, name))) in _TABLE:
                return importlib.import_module(f"{module.__name__}.{name}")
            msg = f"fastembed_stream has no {module.__name__}.{name}."
            raise AttributeError(msg)

        vars(module).update(__getattr__=__getattr__)

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Answer `importlib.metadata`, where it asks about what can be imported here."""
        if self.root != "fastembed" or context.path is not sys.path:
            return []
        from fastembed_stream.fastembed_api.distribution import Fastembed

        asked = (context.name or "fastembed").lower().replace("_", "-")
        return [Fastembed(asked)] if asked in {"fastembed", "fastembed-gpu"} else []


def _named(name: str) -> object:
    """Give what fastembed calls so; a base of one class here is that class."""
    if name == "ImageInput":
        from PIL import Image

        return fastembed_api.PathInput | Image.Image
    if name in {"DefaultEmbedding", "FlagEmbedding"}:
        name = "TextEmbedding"
    return getattr(fastembed_api, name.removesuffix("Base"))


def _gone_without() -> Iterable[str]:
    """Name the modules that keep None in place of a class of fastembed."""
    for name, module in list(sys.modules.items()):
        known = getattr(module, "__dict__", {})
        if any(known.get(each, each) is None for each in _TABLE[""].split()):
            yield name
