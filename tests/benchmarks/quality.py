"""
What each way to search finds: recall@10 and nDCG@10 on labelled questions.

Documents go through `hybrid_to_qdrant`, questions through the stages of `rerank_queries`, so the
figures are those of the flows. Ways with settings of their own are compared on half of the
questions and reported on the other half.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bytewax.testing import run_main
from rich.console import Group
from rich.table import Table

from flows.hybrid_to_qdrant import build
from flows.settings import HybridSettings
from flows.settings.models import TextStage
from operators import (
    STOP,
    Batch,
    Collection,
    Fused,
    Message,
    Nearest,
    Record,
    RerankStage,
    Rescored,
    RetrieveStage,
    Server,
)
from operators.retrieval import Search
from operators.stages import Stage, apply
from tests.benchmarks.material import MODEL, TEST_MODELS
from tests.benchmarks.questions import Question, labelled

__all__ = ["run"]

_AT = 10
_MOST = 50
_BATCH = 50
_SPLADE = TEST_MODELS / "splade-tiny"
_CROSS = TEST_MODELS / "cross-standin"


@dataclass(frozen=True, kw_only=True)
class _Store:
    """A collection, and the stages that put questions into its terms."""

    server: Server
    collection: Collection
    stages: tuple[TextStage, ...]

    def asked(self, questions: Sequence[Question]) -> list[Record]:
        """Embed questions once, for all ways to search."""
        records = [_record(number, question) for number, question in enumerate(questions)]
        return _through(self.stages, records)

    def found(self, search: Search, asked: list[Record], *, limit: int = _MOST) -> list[Record]:
        """Search."""
        wanted = {name: self.collection.vectors[name] for name in search.vectors}
        stage = RetrieveStage(
            server=self.server,
            collection=replace(self.collection, vectors=wanted),
            search=search,
            limit=limit,
        )
        return _through((stage,), asked)


@dataclass(frozen=True, kw_only=True)
class _Score:
    """Of some questions: how many answers are among the first ten, and how far up."""

    recall: float
    ndcg: float


def run() -> Group:
    """Measure all ways on one set of questions, and how fusion was chosen."""
    questions = labelled()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = _stored(folder / "all", questions.documents, {"sparse_model": "Qdrant/bm25"})
        stack.callback(store.server.close)
        ways = _ways(store, questions.held_out)
        if _SPLADE.is_dir():
            only = {
                "sparse_model": "prithivida/Splade_PP_en_v1",
                "sparse_folder": _SPLADE,
                "dense_model": None,
                "late_model": None,
            }
            splade = _stored(folder / "splade", questions.documents, only)
            stack.callback(splade.server.close)
            found = splade.found(Nearest(vector="sparse"), splade.asked(questions.held_out))
            ways["SPLADE (tiny, 2 layers)"] = found
        return Group(
            _fusions(store, questions.chosen_on, questions.held_out),
            _reported(ways, questions.held_out, len(questions.documents)),
        )


def _ways(store: _Store, questions: Sequence[Question]) -> dict[str, list[Record]]:
    asked = store.asked(questions)
    ways = {
        "dense (MiniLM)": store.found(Nearest(vector="dense"), asked),
        "BM25": store.found(Nearest(vector="sparse"), asked),
        "hybrid, the default": store.found(Fused(), asked),
        "late, exhaustive MaxSim": store.found(Nearest(vector="late"), asked),
        "MUVERA alone": store.found(Nearest(vector="muvera"), asked),
        "MUVERA, rescored by late": store.found(Rescored(), asked),
    }
    if _CROSS.is_dir():
        rerank = RerankStage(model="Xenova/ms-marco-MiniLM-L-6-v2", folder=_CROSS)
        ways["hybrid, reranked (stand-in, untrained)"] = _through(
            (rerank,), ways["hybrid, the default"]
        )
    return ways


def _fusions(store: _Store, chosen_on: Sequence[Question], held_out: Sequence[Question]) -> Table:
    searches: dict[str, Search] = {
        "dense alone": Nearest(vector="dense"),
        "sparse alone": Nearest(vector="sparse"),
        "dbsf": Fused(fusion="dbsf"),
    }
    for k in (None, 10, 60):
        for weight in (1.0, 2.0, 4.0):
            weights = () if weight == 1 else (weight, 1.0)
            name = f"rrf, k {k or 'of the server (2)'}, dense weighs {weight:g}"
            searches[name] = Fused(k=k, weights=weights)
    table = Table("fusion of dense and BM25", "recall@10, choosing", "nDCG@10, choosing")
    table.add_column("recall@10, held out")
    table.add_column("nDCG@10, held out")
    first, second = store.asked(chosen_on), store.asked(held_out)
    for name, search in searches.items():
        row = []
        for asked, questions in ((first, chosen_on), (second, held_out)):
            score = _scored(store.found(search, asked, limit=_AT), questions)
            row += [f"{score.recall:.3f}", f"{score.ndcg:.3f}"]
        table.add_row(name, *row)
    return table


def _reported(ways: dict[str, list[Record]], questions: Sequence[Question], n: int) -> Table:
    table = Table("way to search", "recall@10", "nDCG@10")
    table.title = f"{len(questions)} questions held out, {n:,} docstrings"
    for name, found in ways.items():
        score = _scored(found, questions)
        table.add_row(name, f"{score.recall:.3f}", f"{score.ndcg:.3f}")
    late, muvera = ways["late, exhaustive MaxSim"], ways["MUVERA, rescored by late"]
    ratio = _scored(muvera, questions).recall / _scored(late, questions).recall
    table.caption = (
        f"MUVERA, rescored, has {ratio:.3f} of exhaustive MaxSim's recall, and "
        f"{_kept(late, muvera):.3f} of its ten hits"
    )
    return table


def _kept(all_seen: list[Record], some_seen: list[Record]) -> float:
    """Tell which share of one way's ten hits another way gives too."""
    shares = [
        len({hit.id for hit in one.hits[:_AT]} & {hit.id for hit in other.hits[:_AT]}) / _AT
        for one, other in zip(all_seen, some_seen, strict=True)
    ]
    return float(np.mean(shares))


def _scored(found: list[Record], questions: Sequence[Question]) -> _Score:
    ranks = [_rank(one, question.answer) for one, question in zip(found, questions, strict=True)]
    gains = [1 / math.log2(rank + 2) if rank is not None else 0.0 for rank in ranks]
    return _Score(
        recall=float(np.mean([rank is not None for rank in ranks])), ndcg=float(np.mean(gains))
    )


def _rank(found: Record, answer: int) -> int | None:
    places = [hit.payload["number"] for hit in found.hits[:_AT]]
    return places.index(answer) if answer in places else None


def _stored(folder: Path, documents: Sequence[str], models: dict[str, object]) -> _Store:
    """Run the flow over the documents, in this process."""
    folder.mkdir()
    lines = folder / "documents.jsonl"
    lines.write_text(
        "".join(json.dumps({"number": n, "text": text}) + "\n" for n, text in enumerate(documents)),
        encoding="utf-8",
    )
    told: dict[str, object] = {
        "input_file": lines,
        "key_field": "number",
        "qdrant_path": folder / "qdrant",
        "dead_letter_file": folder / "dead.jsonl",
        "dense_model": MODEL,
        "late_model": f"{MODEL}-tokens",
    }
    settings = HybridSettings(**(told | models))  # type: ignore[arg-type]  # checked by pydantic
    STOP.reset()
    run_main(build(settings))  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
    stages = settings.stages(as_query=True)
    collection = Collection(name=settings.collection, vectors=settings.spaces(stages))
    n_stored = settings.server.client().count(settings.collection).count
    assert n_stored == len(documents), (folder / "dead.jsonl").read_text()
    return _Store(server=settings.server, collection=collection, stages=stages)


def _through(stages: Sequence[Stage], records: Iterable[Record]) -> list[Record]:
    left = list(records)
    done: list[Record] = []
    while left:
        batch = Batch(records=tuple(left[:_BATCH]))
        left = left[_BATCH:]
        for stage in stages:
            batch = apply(stage, batch)
        assert not batch.failures, batch.failures[0].reason
        done += batch.records
    return done


def _record(number: int, question: Question) -> Record:
    origin = Message(topic="questions", partition=0, offset=number, key=None, value=None)
    return Record(key=number, fields={"text": question.text}, payload={}, origin=origin)
