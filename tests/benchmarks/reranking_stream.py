"""
Reranking in a stream: the hits of a whole batch in one call, against a call for each query.

Beside the time stand the tokens that the graph is given, padding included: they do not depend on
what else the machine does.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from fastembed_stream import CROSS_ENCODER, OnnxEmbedder, open_model
from fastembed_stream.plan import pack
from operators import Batch, Hit, Message, Record
from operators.retrieval import RerankStage
from tests.benchmarks.material import TEST_MODELS, corpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastembed_stream.values import Ints

__all__ = ["run"]

_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
_FOLDER = TEST_MODELS / "cross-standin"
_N_QUERIES = 20
"""With 100, fastembed takes a quarter of an hour, and the ratios are the same."""
_N_HITS = 50
_N_TEXTS = 1_000
_WORDS = 8
"""Of a query: the first ones of a text, which is what it asks for."""
_LARGE_BUDGET = 16_384
"""Tokens of a group on a GPU, about."""


def run(n_queries: int = _N_QUERIES, n_hits: int = _N_HITS) -> Table:
    """Measure the test models' cross-encoder, a stand-in, once; print ratios."""
    batch = _queries(n_queries, n_hits)
    lengths, budget = _lengths(batch)
    stage = RerankStage(model=_MODEL, folder=_FOLDER)
    stage.open()
    alone = [Batch(records=(record,)) for record in batch.records]
    competitors: dict[str, tuple[Callable[[], object], int]] = {
        f"one batch, groups of {budget} tokens": (
            lambda: stage(batch),
            _padded(np.concatenate(lengths), budget),
        ),
        "query by query": (
            lambda: [stage(one) for one in alone],
            sum(_padded(each, budget) for each in lengths),
        ),
    }
    try:
        from fastembed.rerank.cross_encoder import TextCrossEncoder
    except ImportError:
        pass
    else:
        theirs = TextCrossEncoder(_MODEL, specific_model_path=str(_FOLDER))
        competitors["fastembed 0.9.1, query by query"] = (
            lambda: [list(theirs.rerank(*_texts(record))) for record in batch.records],
            sum(len(each) * int(each.max()) for each in lengths),
        )
    title = (
        f"Reranking {n_hits} hits for each of {n_queries} queries, stand-in model; "
        f"{_large(lengths)}"
    )
    table = Table("", "seconds", "tokens", "time of one batch", "its tokens", title=title)
    first: tuple[float, int] | None = None
    for name, (compete, n_tokens) in competitors.items():
        started = time.perf_counter()
        compete()
        seconds = time.perf_counter() - started
        first = first or (seconds, n_tokens)
        ratios = (f"{seconds / first[0]:.2f} times", f"{n_tokens / first[1]:.2f} times")
        table.add_row(name, f"{seconds:.1f}", f"{n_tokens:,}", *ratios)
    return table


def _large(lengths: list[Ints]) -> str:
    """Tell what one batch saves where groups are large, as on a GPU: runs of the graph."""
    together = len(pack(np.concatenate(lengths), _LARGE_BUDGET))
    apart = sum(len(pack(each, _LARGE_BUDGET)) for each in lengths)
    return f"in groups of {_LARGE_BUDGET:,} tokens {together} runs instead of {apart}"


def _lengths(batch: Batch) -> tuple[list[Ints], int]:
    """Give the tokens of each query's pairs, int64[n_hits] each, and the measured budget."""
    score = open_model(_MODEL, CROSS_ENCODER, folder=_FOLDER).documents
    assert isinstance(score, OnnxEmbedder)
    pairs = [[(query, text) for text in texts] for query, texts in map(_texts, batch.records)]
    return [score.family.read(each).lengths for each in pairs], score.warm_up()


def _padded(lengths: Ints, budget: int) -> int:
    return sum(len(rows) * int(lengths[rows].max()) for rows in pack(lengths, budget))


def _texts(record: Record) -> tuple[str, list[str]]:
    return str(record.fields["text"]), [str(hit.payload["text"]) for hit in record.hits]


def _queries(n_queries: int, n_hits: int) -> Batch:
    """Make queries whose hits have the mixed lengths of real texts."""
    texts = corpus(_N_TEXTS).texts
    chance = random.Random(1)  # noqa: S311  no secret
    records = []
    for number in range(n_queries):
        some = chance.sample(texts, n_hits)
        hits = tuple(
            Hit(id=at, score=1 - at / 100, payload={"text": text}) for at, text in enumerate(some)
        )
        origin = Message(
            topic="queries", partition=0, offset=number, key=b"%d" % number, value=None
        )
        query = " ".join(some[0].split()[:_WORDS])
        records.append(
            Record(key=number, fields={"text": query}, payload={}, origin=origin, hits=hits)
        )
    return Batch(records=tuple(records))
