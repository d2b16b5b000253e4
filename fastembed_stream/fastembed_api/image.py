"""fastembed's class for images."""

from __future__ import annotations

from typing import ClassVar

from fastembed_stream.fastembed_api.drop_in import DropIn
from fastembed_stream.recipes import IMAGE
from fastembed_stream.values import Floats, ImageInput

__all__ = ["ImageEmbedding"]


class ImageEmbedding(DropIn[ImageInput, ImageInput, Floats]):
    """Dense vectors for images."""

    _kind: ClassVar = IMAGE
