"""A vector for each patch of a page, and for each token of a query: ColPali."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import ColPali
    from fastembed_stream.values import Floats, ImageInput

__all__ = ["open_colpali"]


def open_colpali(opening: Opening, recipe: ColPali) -> OpenModel[ImageInput, str, Floats]:
    """Open a model."""
    raise NotImplementedError
