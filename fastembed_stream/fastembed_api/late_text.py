"""fastembed's class for late interaction over text."""

from __future__ import annotations

from typing import ClassVar

from fastembed_stream.fastembed_api.drop_in import DropIn
from fastembed_stream.recipes import LATE_TEXT
from fastembed_stream.values import Floats

__all__ = ["LateInteractionTextEmbedding"]


class LateInteractionTextEmbedding(DropIn[str, str, Floats]):
    """A vector for each token of texts."""

    _kind: ClassVar = LATE_TEXT
