"""
Kinds: what goes into a model and what comes out, whatever its family.

A kind is what a drop-in class, `open_model` and a stage are made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from fastembed_stream.values import Floats, ImageInput, Pair, SparseEmbedding

__all__ = [
    "CROSS_ENCODER",
    "DENSE_TEXT",
    "IMAGE",
    "KINDS",
    "LATE_MULTIMODAL",
    "LATE_TEXT",
    "SPARSE_TEXT",
    "Kind",
]

Document_co = TypeVar("Document_co", covariant=True)
Query_co = TypeVar("Query_co", covariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Document_co, Query_co, Answer_co]):
    """What a model takes as a document and as a query, and what it answers for each."""

    name: str


DENSE_TEXT: Kind[str, str, Floats] = Kind("dense-text")
"""Texts to float32[dim]."""
SPARSE_TEXT: Kind[str, str, SparseEmbedding] = Kind("sparse-text")
"""Texts to sparse vectors."""
LATE_TEXT: Kind[str, str, Floats] = Kind("late-text")
"""Texts to float32[n_tokens, dim]."""
IMAGE: Kind[ImageInput, ImageInput, Floats] = Kind("image")
"""Images to float32[dim]."""
LATE_MULTIMODAL: Kind[ImageInput, str, Floats] = Kind("late-multimodal")
"""Images as documents, texts as queries, to float32[n_tokens, dim]."""
CROSS_ENCODER: Kind[Pair, Pair, float] = Kind("cross-encoder")
"""A query and a document to a score."""

KINDS: tuple[Kind[object, object, object], ...] = (
    DENSE_TEXT,
    SPARSE_TEXT,
    LATE_TEXT,
    IMAGE,
    LATE_MULTIMODAL,
    CROSS_ENCODER,
)
