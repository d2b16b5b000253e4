"""The stage that finds what is stored for a query."""

from __future__ import annotations

import reprlib
import threading
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from bytewax.dataflow import operator
from qdrant_client import models

from fastembed_stream.errors import SettingError
from fastembed_stream.values import SparseEmbedding
from operators.decoding import RESERVED, BadRecordError
from operators.metrics import FAILURES
from operators.numbers import check_vector
from operators.qdrant import Collection, Server
from operators.qdrant.sending import Refused, place_of
from operators.records import Batch, Batches, Failure, Hit, Record, Split, Vector
from operators.retrieval.reader import Asking, Found, Question, Reader
from operators.retrieval.searches import Nearest, Search, Terms, request_of
from operators.retrieval.terms import filter_of, limit_of
from operators.stages import StageLimits, run_stages

__all__ = ["RetrieveStage", "retrieve"]

_BYTES_PER_NUMBER = 22
"""A float32 as JSON text, at most."""


class _Opened:
    """A collection compared once for each process, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: Reader | None = None

    def reader(self, stage: RetrieveStage) -> Reader:
        with self._lock:
            if self._reader is None:
                self._reader = Reader(stage.server, stage.collection, stage.search, stage.asking)
            return self._reader


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveStage:
    """
    What is found for each query, best first: `record.hits`.

    collection    where to look, and what made the vectors of the queries: the `space()` of the
                  stages before this one, by vector name. It may hold more vectors than these
    search        which vectors, and how; every query has to bring all of them
    limit         hits of a query that asks for no other number
    filter        what every query may find at most, whatever it asks for itself
    payload       names of what to give of a point's payload; None gives all of it
    params        how the index is searched, where it need not be the server's default
    limit_field   field or payload entry of the record that holds a limit of its own, an integer;
                  None where queries may not tell
    filter_field  the same for a filter, as Qdrant's REST API has them
    most          the largest limit that a query may ask for

    Describing it checks names; the collection is compared once for each process, at first use or
    by `open`. A query that is wrong, or that the server refuses, is a failure of its own. A query
    without a word, where only words are looked up, has no hits.
    """

    waits_out_outages: ClassVar[bool] = True

    server: Server
    collection: Collection
    search: Search = Nearest()  # noqa: RUF009  frozen
    limit: int = 10
    filter: models.Filter | None = None
    payload: tuple[str, ...] | None = None
    params: models.SearchParams | None = None
    limit_field: str | None = "limit"
    filter_field: str | None = "filter"
    most: int = 1_000
    asking: Asking = Asking()  # noqa: RUF009  frozen
    _opened: _Opened = field(default_factory=_Opened, init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.search.vectors if name not in self.collection.vectors]
        if unknown:
            found = ", ".join(map(repr, self.collection.vectors))
            msg = (
                f"{self.search} needs {', '.join(map(repr, unknown))}, but queries bring {found}. "
                "Add the stage that writes it, and its space to the collection."
            )
            raise SettingError(msg)
        if not 1 <= self.limit <= self.most:
            msg = f"limit={self.limit}: expected 1 to most={self.most}."
            raise SettingError(msg)
        if self.payload is not None and RESERVED in {n.split(".")[0] for n in self.payload}:
            msg = f"payload={self.payload}: {RESERVED!r} is kept beside a document, not given."
            raise SettingError(msg)

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return f"retrieve {'+'.join(self.search.vectors)}"

    def open(self) -> None:
        """
        Compare the collection now; waits for a server that is away.

        raises  SettingError where it lacks a vector, or another model made it
        """
        self._opened.reader(self)

    def __call__(self, batch: Batch) -> Batch:
        """Ask for all queries of a batch together; one that cannot be asked fails alone."""
        reader = self._opened.reader(self)
        asked: list[tuple[Record, Question | None]] = []
        failures: list[Failure] = []
        for record in batch.records:
            try:
                asked.append((record, self._question(record)))
            except BadRecordError as error:
                failures.append(self._failure(record, error))
        answers = iter(reader.answers([question for _, question in asked if question]))
        scored_by = self.search.scored_by
        sign = -1.0 if scored_by is not None and reader.lower_is_better(scored_by) else 1.0
        records: list[Record] = []
        for record, question in asked:
            found = next(answers) if question else []
            if isinstance(found, Refused):
                failures.append(self._failure(record, found.error))
            else:
                records.append(replace(record, hits=_hits(found, sign)))
        return Batch(records=tuple(records), failures=tuple(failures))

    def _failure(self, record: Record, error: Exception) -> Failure:
        FAILURES.labels(self.name).inc()
        return Failure.of(record.origin, self.name, error)

    def _question(self, record: Record) -> Question | None:
        """Put a query into Qdrant's terms; None where there is nothing to ask."""
        vectors = {name: self._vector(record, name) for name in self.search.vectors}
        terms = Terms(
            limit=limit_of(record, self.limit_field, self.limit, self.most),
            payload=(
                models.PayloadSelectorExclude(exclude=[RESERVED])
                if self.payload is None
                else list(self.payload)
            ),
            filter=filter_of(record, self.filter_field, self.filter),
            params=self.params,
        )
        request = request_of(self.search, vectors, terms)
        size = _BYTES_PER_NUMBER * sum(map(_n_numbers, vectors.values()))
        if request is None:
            return None
        name = f"query {place_of(record.origin)}"
        return Question(request=request, size_bytes=size, name=name)

    def _vector(self, record: Record, name: str) -> Vector:
        vector, key = record.vectors.get(name), reprlib.repr(record.key)
        if vector is None:
            found = ", ".join(map(repr, record.vectors)) or "none"
            msg = (
                f"Query {key} has no vector {name!r}; it has {found}. Run the stage that "
                "writes it before this one."
            )
            raise BadRecordError(msg)
        if isinstance(vector, np.ndarray) and vector.size == 0:
            msg = f"Vector {name!r} of query {key} has no numbers: {vector.shape}."
            raise BadRecordError(msg)
        try:
            check_vector(name, vector)
        except ValueError as error:
            raise BadRecordError(str(error)) from None
        made, wanted = record.models.get(name), self.collection.vectors[name].fingerprint
        if made != wanted:
            msg = (
                f"Vector {name!r} of query {key} was made by {made}, those of the "
                f"collection by {wanted}: what it finds would mean nothing. Embed it anew."
            )
            raise BadRecordError(msg)
        return vector


def _hits(found: Found, sign: float) -> tuple[Hit, ...]:
    return tuple(
        Hit(id=_plain_id(point.id), score=sign * point.score, payload=point.payload or {})
        for point in found
    )


def _plain_id(given: models.ExtendedPointId) -> str | int:
    return given if isinstance(given, int) else str(given)


def _n_numbers(vector: Vector) -> int:
    """Count the numbers that travel; an index weighs as much as a value."""
    return 2 * vector.values.size if isinstance(vector, SparseEmbedding) else vector.size


@operator
def retrieve(
    step_id: str,
    up: Batches,
    *,
    stage: RetrieveStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write on each query what is found for it.

    Delivery: that of `run_stages`. It only reads: a crash asks again, and finds what is stored by
    then. An outage of the server is waited out and holds the flow back.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)
