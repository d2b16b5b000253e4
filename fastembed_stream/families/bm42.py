"""BM42: words weighed by the attention of a transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import Bm42
    from fastembed_stream.values import SparseEmbedding

__all__ = ["open_bm42"]


def open_bm42(opening: Opening, recipe: Bm42) -> OpenModel[str, str, SparseEmbedding]:
    """Open a model."""
    raise NotImplementedError
