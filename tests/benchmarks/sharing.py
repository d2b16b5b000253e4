"""
A short call beside a long one: how long a query waits, and what the long call loses by it.

The wait should be at most the query's own time and that of two groups.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from fastembed_stream import OnnxEmbedder, TextEmbedding
from fastembed_stream.plan import pack
from tests.benchmarks.material import MODEL, Corpus, corpus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

_N_TEXTS = 384
_ROUNDS = 3
_N_ALONE = 30
_EVERY_S = 0.25
_QUERY = "what does a stream do when its disk is full"


def run() -> Table:
    """Measure a query alone and beside `embed` of many texts; print the bound beside the wait."""
    texts = corpus(_N_TEXTS)
    model = TextEmbedding(MODEL)
    list(model.embed(texts.texts))  # calibrates
    alone_s = [_seconds(lambda: list(model.query_embed(_QUERY))) for _ in range(_N_ALONE)]
    bulk_s = [_seconds(lambda: list(model.embed(texts.texts))) for _ in range(_ROUNDS)]
    shared_s, waits_s = zip(*(_beside(model, texts) for _ in range(_ROUNDS)), strict=True)
    waited_s = np.concatenate(waits_s)
    own_s, group_s = float(np.median(alone_s)), _group_s(model, texts, float(np.median(bulk_s)))
    n_queries = len(waited_s) / _ROUNDS
    lost = np.median(shared_s) / np.median(bulk_s) - 1
    table = Table("", "", title=f"A query beside embed of {texts.describe()}")
    table.add_row("a query alone, median", f"{own_s * 1e3:.0f} ms")
    table.add_row("a group of the long call on its lane", f"{group_s * 1e3:.0f} ms")
    table.add_row("bound: its own time and two groups", f"{(own_s + 2 * group_s) * 1e3:.0f} ms")
    told = " / ".join(f"{np.quantile(waited_s, q) * 1e3:.0f}" for q in (0.5, 0.9, 1))
    table.add_row("a query beside it, median / 90 % / longest", f"{told} ms")
    table.add_row("the long call alone", f"{np.median(bulk_s):.2f} s")
    table.add_row(f"and with {n_queries:.0f} queries", f"{np.median(shared_s):.2f} s, {lost:+.0%}")
    return table


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _beside(model: TextEmbedding, texts: Corpus) -> tuple[float, list[float]]:
    """Embed all texts on another thread, and ask now and then; give its seconds and the waits."""
    took_s: list[float] = []
    bulk = threading.Thread(
        target=lambda: took_s.append(_seconds(lambda: list(model.embed(texts.texts))))
    )
    waits_s: list[float] = []
    bulk.start()
    while bulk.is_alive():
        time.sleep(_EVERY_S)
        waits_s.append(_seconds(lambda: list(model.query_embed(_QUERY))))
    return took_s[0], waits_s[:-1]  # the last may have found it done


def _group_s(model: TextEmbedding, texts: Corpus, bulk_s: float) -> float:
    """Tell how long a group takes on its lane, on average."""
    documents = model._opened().documents
    assert isinstance(documents, OnnxEmbedder)
    return bulk_s * documents.lanes / len(pack(texts.lengths, documents.warm_up()))
