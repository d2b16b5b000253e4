"""The vectors of all tokens of a text as they leave the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import TokenEmbeddings
    from fastembed_stream.values import Floats

__all__ = ["open_token_embeddings"]


def open_token_embeddings(opening: Opening, recipe: TokenEmbeddings) -> OpenModel[str, str, Floats]:
    """Open a model."""
    raise NotImplementedError
