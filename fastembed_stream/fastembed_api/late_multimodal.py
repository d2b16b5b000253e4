"""fastembed's class for late interaction over pages and questions."""

from __future__ import annotations

from typing import ClassVar

from fastembed_stream.fastembed_api.drop_in import DropIn
from fastembed_stream.recipes import LATE_MULTIMODAL
from fastembed_stream.values import Floats, ImageInput

__all__ = ["LateInteractionMultimodalEmbedding"]


class LateInteractionMultimodalEmbedding(DropIn[ImageInput, str, Floats]):
    """A vector for each patch of images and for each token of texts."""

    _kind: ClassVar = LATE_MULTIMODAL
