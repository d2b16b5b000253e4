"""A vector for each token of a text: ColBERT and its kin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import Colbert
    from fastembed_stream.values import Floats

__all__ = ["open_colbert"]


def open_colbert(opening: Opening, recipe: Colbert) -> OpenModel[str, str, Floats]:
    """Open a model."""
    raise NotImplementedError
