"""fastembed's class for sparse text."""

from __future__ import annotations

from typing import ClassVar

from fastembed_stream.fastembed_api.drop_in import DropIn
from fastembed_stream.recipes import SPARSE_TEXT
from fastembed_stream.values import SparseEmbedding

__all__ = ["SparseTextEmbedding"]


class SparseTextEmbedding(DropIn[str, str, SparseEmbedding]):
    """Sparse vectors for texts."""

    _kind: ClassVar = SPARSE_TEXT
