"""fastembed's class for reranking."""

from __future__ import annotations

from typing import ClassVar

from fastembed_stream.fastembed_api.drop_in import DropIn
from fastembed_stream.recipes import CROSS_ENCODER
from fastembed_stream.values import Pair

__all__ = ["TextCrossEncoder"]


class TextCrossEncoder(DropIn[Pair, Pair, float]):
    """Scores for queries and documents that are read together."""

    _kind: ClassVar = CROSS_ENCODER
