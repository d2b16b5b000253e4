"""One vector for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import DenseImage
    from fastembed_stream.values import Floats, ImageInput

__all__ = ["open_dense_image"]


def open_dense_image(
    opening: Opening, recipe: DenseImage
) -> OpenModel[ImageInput, ImageInput, Floats]:
    """Open a model."""
    raise NotImplementedError
