"""SPLADE: a weight for each word of the vocabulary, from a transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import InferenceFreeSplade, Splade
    from fastembed_stream.values import SparseEmbedding

__all__ = ["open_inference_free_splade", "open_splade"]


def open_splade(opening: Opening, recipe: Splade) -> OpenModel[str, str, SparseEmbedding]:
    """Open a model."""
    raise NotImplementedError


def open_inference_free_splade(
    opening: Opening, recipe: InferenceFreeSplade
) -> OpenModel[str, str, SparseEmbedding]:
    """Open a model."""
    raise NotImplementedError
