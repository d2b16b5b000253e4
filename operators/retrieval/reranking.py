"""The stage that puts hits in the order of a cross-encoder, which reads query and hit together."""

from __future__ import annotations

import math
import reprlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bytewax.dataflow import operator

from fastembed_stream import (
    CROSS_ENCODER,
    Fetching,
    Model,
    OpenModel,
    Runtime,
    catalog,
    locate,
    open_model,
)
from fastembed_stream.errors import SettingError
from fastembed_stream.values import Pair
from operators.decoding import BadRecordError
from operators.metrics import FAILURES, TRUNCATED_TEXTS, TRUNCATED_TOKENS, UNRANKED_HITS
from operators.records import Batch, Batches, Failure, Hit, Record, Split
from operators.retrieval.terms import limit_of
from operators.stages import StageLimits, run_stages

__all__ = ["RerankStage", "rerank"]


class _Opened:
    """A model opened once for each process, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: OpenModel[Pair, Pair, float] | None = None

    def model(self, stage: RerankStage) -> OpenModel[Pair, Pair, float]:
        with self._lock:
            if self._model is None:
                self._model = open_model(
                    stage.row,
                    CROSS_ENCODER,
                    folder=locate(stage.row, folder=stage.folder, fetching=stage.fetching),
                    runtime=stage.runtime,
                    max_tokens=stage.max_tokens,
                )
            return self._model


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankStage:
    """
    The hits of each query in a better order, with the scores of a cross-encoder.

    model           a catalog name, or a row of your own
    query_field     name of the field that holds the query
    document_field  what of a hit's payload is read; dots go into nested objects
    limit           hits to keep of each query; None keeps all
    limit_field     field or payload entry of the record that holds a limit of its own, an integer;
                    None where queries may not tell
    most            the largest limit that a query may ask for
    folder          take the model's files from here
    max_tokens      another limit than the model's tokenizer_config.json states; longer pairs are
                    cut

    A score replaces the one that the search gave; hits of one score stay in the search's order. A
    hit without a text under `document_field` cannot be read: it comes after those that can, in
    the search's order and with its old score, which compares with none of the new ones. Such hits
    are counted in `stream_unranked_hits_total`.

    All pairs of a batch are scored in one call, so that those of several queries are packed
    together by length. Describing it checks the name; the model is opened once for each process,
    at first use or by `open`.
    """

    model: Model | str
    query_field: str = "text"
    document_field: str = "text"
    limit: int | None = None
    limit_field: str | None = None
    most: int = 1_000
    folder: Path | None = None
    fetching: Fetching = Fetching()  # noqa: RUF009  frozen
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    max_tokens: int | None = None
    _opened: _Opened = field(default_factory=_Opened, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.query_field or not self.document_field:
            got = f"{self.query_field!r}, {self.document_field!r}"
            msg = f"A reranking stage needs a field of the query and one of the hits; got {got}."
            raise SettingError(msg)
        if self.limit is not None and self.limit < 1:
            msg = f"RerankStage(limit={self.limit}): expected at least 1, or None for all hits."
            raise SettingError(msg)
        if self.row.kind != CROSS_ENCODER:  # an unknown name fails here too
            msg = f"{self.row.name} is a {self.row.kind.name} model; expected a cross-encoder."
            raise SettingError(msg)

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return "rerank"

    @property
    def row(self) -> Model:
        """Give the model's row."""
        return (
            catalog.find(self.model, CROSS_ENCODER) if isinstance(self.model, str) else self.model
        )

    def open(self) -> None:
        """Open the model and measure its token budget now."""
        self._opened.model(self).warm_up()

    def __call__(self, batch: Batch) -> Batch:
        """Score the hits of all queries at once; a score that is not finite fails its query."""
        asked: list[tuple[Record, int, list[Pair]]] = []
        failures: list[Failure] = []
        for record in batch.records:
            try:
                asked.append((record, self._limit(record), self._pairs(record)))
            except BadRecordError as error:
                failures.append(self._failure(record, error))
        scores = iter(self._scores([pair for *_, pairs in asked for pair in pairs]))
        records = []
        for record, limit, pairs in asked:
            own = [next(scores) for _ in pairs]
            if all(map(math.isfinite, own)):
                records.append(replace(record, hits=self._ranked(record.hits, own)[:limit]))
            else:
                failures.append(self._failure(record, self._not_finite(own)))
        return Batch(records=tuple(records), failures=tuple(failures))

    def _limit(self, record: Record) -> int:
        default = len(record.hits) if self.limit is None else self.limit
        return limit_of(record, self.limit_field, default, self.most)

    def _pairs(self, record: Record) -> list[Pair]:
        query = record.fields.get(self.query_field)
        if not isinstance(query, str):
            found = ", ".join(record.fields) or "none"
            key = reprlib.repr(record.key)
            msg = f"Field {self.query_field!r} of query {key} is no text; it has {found}."
            raise BadRecordError(msg)
        texts = (_text(hit, self.document_field) for hit in record.hits)
        return [(query, text) for text in texts if text is not None]

    def _scores(self, pairs: Sequence[Pair]) -> list[float]:
        if not pairs:
            return []
        score = self._opened.model(self).documents
        scores = score(pairs)
        TRUNCATED_TEXTS.labels(self.name).set(score.counts.truncated_rows)
        TRUNCATED_TOKENS.labels(self.name).set(score.counts.truncated_tokens)
        return scores

    def _ranked(self, hits: tuple[Hit, ...], scores: Sequence[float]) -> tuple[Hit, ...]:
        """Put those that have a score first, best first; the sort keeps the order of equals."""
        readable = [_text(hit, self.document_field) is not None for hit in hits]
        read = [hit for hit, can in zip(hits, readable, strict=True) if can]
        unread = [hit for hit, can in zip(hits, readable, strict=True) if not can]
        UNRANKED_HITS.labels(self.name).inc(len(unread))
        scored = [replace(hit, score=score) for hit, score in zip(read, scores, strict=True)]
        scored.sort(key=lambda hit: hit.score, reverse=True)
        return (*scored, *unread)

    def _not_finite(self, scores: Sequence[float]) -> FloatingPointError:
        n_bad = sum(not math.isfinite(score) for score in scores)
        msg = f"{self.row.name} gave {n_bad} of {len(scores)} scores that are NaN or infinite."
        return FloatingPointError(msg)

    def _failure(self, record: Record, error: Exception) -> Failure:
        FAILURES.labels(self.name).inc()
        return Failure.of(record.origin, self.name, error)


def _text(hit: Hit, path: str) -> str | None:
    """Follow a dotted path into a hit's payload; a field whose own name has dots wins."""
    value: object = hit.payload.get(path)
    if path not in hit.payload:
        value = hit.payload
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


@operator
def rerank(
    step_id: str,
    up: Batches,
    *,
    stage: RerankStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Put the hits of each query in the order of a cross-encoder.

    Delivery: that of `run_stages`. The same hits always come in the same order.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)
