"""Questions to a kept collection, by the stages that `rerank_queries` has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.demo.kept import NO_ENVIRONMENT, store_in
from flows.settings import QuerySettings
from flows.settings.queries import Mode
from operators import Batch, BrokenFlowError, Hit, Message, Record, Stage
from operators.stages import apply

__all__ = ["LATE_MODEL", "MODEL", "SPARSE_MODEL", "ask", "asked", "settings_of"]

MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"
SPARSE_MODEL = "Qdrant/bm25"
LATE_MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8-tokens"

_CANDIDATES = 50
_RERANKED = 25


def settings_of(
    folder: Path,
    collection: str,
    mode: Mode,
    *,
    limit: int,
    rerank_model: str | None = None,
    rerank_folder: Path | None = None,
) -> QuerySettings:
    """Say how a collection of a kept folder is asked, as `rerank_queries` is told it."""
    return QuerySettings(
        _env_prefix=NO_ENVIRONMENT,
        kafka_topics=("questions",),
        results_topic="answers",
        dense_model=MODEL,
        sparse_model=SPARSE_MODEL,
        late_model=LATE_MODEL,
        search=mode,
        limit=limit,
        candidates=_CANDIDATES,
        qdrant_path=store_in(folder),
        collection=collection,
        rerank_model=rerank_model,
        rerank_folder=rerank_folder,
        rerank_candidates=max(_RERANKED, limit),
    )


def ask(settings: QuerySettings, questions: Sequence[str]) -> list[tuple[Hit, ...]]:
    """Give what is found for each question, best first."""
    embedding = settings.embedding
    retrieve = settings.retrieve(settings.spaces(embedding))
    stages = (*embedding, retrieve, *settings.rerank)
    return asked(stages, [{"text": question} for question in questions])


def asked(
    stages: Sequence[Stage], questions: Sequence[dict[str, str | bytes]]
) -> list[tuple[Hit, ...]]:
    """
    Run stages over questions, outside of a flow.

    questions  the fields of each
    raises     BrokenFlowError where one of them fails
    """
    batch = Batch(records=tuple(_record(n, fields) for n, fields in enumerate(questions)))
    for stage in stages:
        batch = apply(stage, batch)
        for failure in batch.failures:
            raise BrokenFlowError(failure.reason)
    return [record.hits for record in batch.records]


def _record(number: int, fields: dict[str, str | bytes]) -> Record:
    origin = Message(topic="questions", partition=0, offset=number, key=None, value=None)
    return Record(key=number, fields=fields, payload={}, origin=origin)
