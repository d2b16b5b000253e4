"""MiniCOIL: BM25's weights times the meaning of each word in its context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import MiniCoil
    from fastembed_stream.values import SparseEmbedding

__all__ = ["open_minicoil"]


def open_minicoil(opening: Opening, recipe: MiniCoil) -> OpenModel[str, str, SparseEmbedding]:
    """Open a model."""
    raise NotImplementedError
