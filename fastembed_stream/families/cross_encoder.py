"""A score for a query and a document that are read together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import CrossEncoder
    from fastembed_stream.values import Pair

__all__ = ["open_cross_encoder"]


def open_cross_encoder(opening: Opening, recipe: CrossEncoder) -> OpenModel[Pair, Pair, float]:
    """Open a model."""
    raise NotImplementedError
