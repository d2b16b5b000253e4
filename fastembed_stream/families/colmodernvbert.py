"""A vector for each patch of a page split into tiles: ColModernVBERT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import ColModernVbert
    from fastembed_stream.values import Floats, ImageInput

__all__ = ["open_colmodernvbert"]


def open_colmodernvbert(
    opening: Opening, recipe: ColModernVbert
) -> OpenModel[ImageInput, str, Floats]:
    """Open a model."""
    raise NotImplementedError
