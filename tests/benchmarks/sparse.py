"""Sparse text: SPLADE and BM25 through `SparseTextEmbedding`, against fastembed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from fastembed_stream import SparseTextEmbedding, catalog, locate
from fastembed_stream.kinds import SPARSE_TEXT
from flows.demo import docstrings
from tests.benchmarks.material import TEST_MODELS, Timing, corpus, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bm25", "splade"]

_SPLADE = "prithivida/Splade_PP_en_v1"
_BM25 = "Qdrant/bm25"
_N_SPLADE = 96
_N_BM25 = 5_000
_FASTEMBEDS_BATCH = 16
"""With its default of 256 texts, fastembed's SPLADE takes several gigabytes."""


def splade() -> Table:
    """Measure the test models' two-layer SPLADE, its budget measured before."""
    texts = corpus(_N_SPLADE)
    folder = str(TEST_MODELS / "splade-tiny")
    ours = SparseTextEmbedding(_SPLADE, specific_model_path=folder)
    budget = ours._opened().warm_up()
    name = f"fastembed_stream, groups of {budget} tokens"
    competitors: dict[str, Callable[[], object]] = {name: lambda: list(ours.embed(texts.texts))}
    try:
        from fastembed import SparseTextEmbedding as Theirs
    except ImportError:
        pass
    else:
        theirs = Theirs(_SPLADE, specific_model_path=folder)
        competitors[f"fastembed 0.9.1, batches of {_FASTEMBEDS_BATCH}"] = lambda: list(
            theirs.embed(texts.texts, batch_size=_FASTEMBEDS_BATCH)
        )
    timings = in_turn(competitors, rounds=2)
    return _table(f"SPLADE, two layers: {texts.describe()}", timings, len(texts.texts), name)


def bm25() -> Table:
    """Measure BM25, which runs on one core in both libraries."""
    texts = [each.text for each in docstrings(_N_BM25)]
    name = "fastembed_stream"
    ours = SparseTextEmbedding(_BM25)
    competitors: dict[str, Callable[[], object]] = {name: lambda: list(ours.embed(texts))}
    try:
        from fastembed import SparseTextEmbedding as Theirs
    except ImportError:
        pass
    else:
        folder = str(locate(catalog.find(_BM25, SPARSE_TEXT)))
        theirs = Theirs(_BM25, specific_model_path=folder)
        competitors["fastembed 0.9.1"] = lambda: list(theirs.embed(texts))
    n_chars = sum(map(len, texts))
    title = f"BM25: {len(texts)} docstrings, {n_chars / len(texts):.0f} characters each"
    return _table(title, in_turn(competitors, rounds=3), len(texts), name)


def _table(title: str, timings: dict[str, Timing], n_texts: int, us: str) -> Table:
    table = Table("", "docs/s", "rounds", "ours is", title=title)
    for name, timing in timings.items():
        rate = f"{n_texts / timing.median:.0f}"
        table.add_row(
            name, rate, timing.spread(), f"{timing.median / timings[us].median:.2f} times it"
        )
    return table
