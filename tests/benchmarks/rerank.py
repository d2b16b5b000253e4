"""Reranking, against fastembed's defaults; a stand-in of the right shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from fastembed_stream import TextCrossEncoder
from tests.benchmarks.material import TEST_MODELS, compared, corpus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
_N_TEXTS = 100
_QUERY = "what does a stream do when its disk is full"
_ROUNDS = 5


def run() -> Table:
    """Measure the documents of one query; print ratios."""
    folder = TEST_MODELS / "cross-standin"
    if not folder.is_dir():
        return Table(title="Reranking: no folder cross-standin among the test models")
    texts = corpus(_N_TEXTS)
    ours = TextCrossEncoder(_MODEL, specific_model_path=str(folder))
    competitors: dict[str, Callable[[], object]] = {
        "fastembed_stream, defaults": lambda: list(ours.rerank(_QUERY, texts.texts))
    }
    try:
        from fastembed.rerank.cross_encoder import TextCrossEncoder as Theirs
    except ImportError:
        pass
    else:
        theirs = Theirs(_MODEL, specific_model_path=str(folder))
        competitors["fastembed 0.9.1, defaults"] = lambda: list(theirs.rerank(_QUERY, texts.texts))
    return compared(
        f"Reranking, stand-in: a question, and {texts.describe()}",
        competitors,
        unit="docs",
        n=len(texts.texts),
        rounds=_ROUNDS,
    )
