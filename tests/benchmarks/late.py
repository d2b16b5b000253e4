"""Late interaction over text, against fastembed's defaults; a stand-in of the right shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from fastembed_stream import LateInteractionTextEmbedding
from tests.benchmarks.material import TEST_MODELS, compared, corpus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

_MODEL = "colbert-ir/colbertv2.0"
_N_TEXTS = 1_792  # whole batches of fastembed's 256
_N_QUERIES = 200
_ROUNDS = 7


def run() -> Group | Table:
    """Measure documents and queries; print ratios."""
    folder = TEST_MODELS / "late-standin-tiny"
    if not folder.is_dir():
        return Table(title="Late interaction: no folder late-standin-tiny among the test models")
    texts = corpus(_N_TEXTS)
    queries = [text[:60] for text in texts.texts[:_N_QUERIES]]
    ours = LateInteractionTextEmbedding(_MODEL, specific_model_path=str(folder))
    documents: dict[str, Callable[[], object]] = {
        "fastembed_stream, defaults": lambda: list(ours.embed(texts.texts))
    }
    asked: dict[str, Callable[[], object]] = {
        "fastembed_stream, defaults": lambda: list(ours.query_embed(queries))
    }
    try:
        from fastembed import LateInteractionTextEmbedding as Theirs
    except ImportError:
        pass
    else:
        theirs = Theirs(_MODEL, specific_model_path=str(folder))
        documents["fastembed 0.9.1, defaults"] = lambda: list(theirs.embed(texts.texts))
        asked["fastembed 0.9.1, defaults"] = lambda: list(theirs.query_embed(queries))
    return Group(
        compared(
            f"ColBERT documents, stand-in: {texts.describe()}",
            documents,
            unit="docs",
            n=len(texts.texts),
            rounds=_ROUNDS,
        ),
        compared(
            f"ColBERT queries, stand-in: {len(queries)} of up to 60 characters",
            asked,
            unit="queries",
            n=len(queries),
            rounds=_ROUNDS,
        ),
    )
