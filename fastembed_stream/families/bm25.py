"""BM25: weights of the words that stand in a text, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import Bm25
    from fastembed_stream.values import SparseEmbedding

__all__ = ["open_bm25"]


def open_bm25(opening: Opening, recipe: Bm25) -> OpenModel[str, str, SparseEmbedding]:
    """Open a model."""
    raise NotImplementedError
