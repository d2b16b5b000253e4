"""One model of every kind that makes a sparse vector of a text; each law runs over all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastembed_stream import SPARSE_TEXT, OpenModel, Runtime, SparseEmbedding, open_model
from fastembed_stream.model import Model
from tests.fastembed_stream.tiny_models import Toy
from tests.fastembed_stream.tiny_sparse import (
    bm25,
    write_bm42,
    write_inference_free,
    write_minicoil,
    write_splade,
)

_LEFT = {"padding_side": "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseKind:
    """
    A model to try the laws on.

    make        writes the folder and describes it
    has_graph   whether budgets and lanes make a difference to how it runs
    is_lexical  whether its dimensions are words of the text, so that rounding changes none
    """

    make: Callable[[Path], Model]
    has_graph: bool = True
    is_lexical: bool = False

    def open(self, folder: Path, **runtime: Any) -> OpenModel[str, str, SparseEmbedding]:
        """Open the model, with two threads unless told."""
        settings: dict[str, Any] = {"device": "cpu", "threads": 2, "token_budget": 64}
        return open_model(self.make(folder), SPARSE_TEXT, runtime=Runtime(**(settings | runtime)))


SPARSE_KINDS: dict[str, SparseKind] = {
    "SPLADE": SparseKind(make=write_splade),
    "SPLADE, padded left": SparseKind(make=lambda folder: write_splade(folder, config=_LEFT)),
    "SPLADE, no special tokens": SparseKind(
        make=lambda folder: write_splade(folder, specials=False)
    ),
    "inference-free SPLADE": SparseKind(make=write_inference_free),
    "BM42": SparseKind(make=write_bm42, is_lexical=True),
    "BM42, padded left": SparseKind(
        make=lambda folder: write_bm42(folder, config=_LEFT), is_lexical=True
    ),
    "MiniCOIL": SparseKind(make=write_minicoil, is_lexical=True),
    "MiniCOIL, padded left": SparseKind(
        make=lambda folder: write_minicoil(folder, config=_LEFT), is_lexical=True
    ),
    "BM25": SparseKind(make=lambda _: bm25(), has_graph=False, is_lexical=True),
}

BROKEN: dict[str, Callable[[Path], Model]] = {
    "SPLADE": lambda folder: write_splade(folder, Toy(nan_word="broken")),
    "inference-free SPLADE": lambda folder: write_inference_free(folder, Toy(nan_word="broken")),
    "BM42": lambda folder: write_bm42(folder, Toy(nan_word="broken")),
    "MiniCOIL": lambda folder: write_minicoil(folder, Toy(nan_word="kafka")),
}
"""Models whose graph gives what is not a number at one word."""
