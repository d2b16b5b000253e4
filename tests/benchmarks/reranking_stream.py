"""Reranking in a stream: the hits of a whole batch in one call, against a call for each query."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from rich.table import Table

from operators import Batch, Hit, Message, Record
from operators.retrieval import RerankStage
from tests.benchmarks.material import TEST_MODELS, corpus, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
_N_QUERIES = 100
_N_HITS = 50
_N_TEXTS = 1_000
_ROUNDS = 3
_WORDS = 8
"""Of a query: the first ones of a text, which is what it asks for."""


def run() -> Table:
    """Measure the test models' cross-encoder, a stand-in; print ratios."""
    stage = RerankStage(model=_MODEL, folder=TEST_MODELS / "cross-standin")
    stage.open()
    batch = _queries()
    alone = [Batch(records=(record,)) for record in batch.records]
    competitors: dict[str, Callable[[], object]] = {
        "RerankStage, all queries in one batch": lambda: stage(batch),
        "RerankStage, query by query": lambda: [stage(one) for one in alone],
    }
    try:
        from fastembed.rerank.cross_encoder import TextCrossEncoder
    except ImportError:
        pass
    else:
        theirs = TextCrossEncoder(_MODEL, specific_model_path=str(TEST_MODELS / "cross-standin"))
        pairs = [
            (str(record.fields["text"]), [str(hit.payload["text"]) for hit in record.hits])
            for record in batch.records
        ]
        competitors["fastembed 0.9.1, query by query"] = lambda: [
            list(theirs.rerank(query, texts)) for query, texts in pairs
        ]
    timings = in_turn(competitors, rounds=_ROUNDS)
    us = timings["RerankStage, all queries in one batch"].median
    title = f"Reranking {_N_HITS} hits for each of {_N_QUERIES} queries, docstrings, stand-in model"
    table = Table("", "pairs/s", "rounds", "one batch is", title=title)
    for name, timing in timings.items():
        rate = f"{_N_QUERIES * _N_HITS / timing.median:.0f}"
        table.add_row(name, rate, timing.spread(), f"{timing.median / us:.2f} times it")
    return table


def _queries() -> Batch:
    """Make queries whose hits have the mixed lengths of real texts."""
    texts = corpus(_N_TEXTS).texts
    chance = random.Random(1)  # noqa: S311  no secret
    records = []
    for number in range(_N_QUERIES):
        some = chance.sample(texts, _N_HITS)
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
