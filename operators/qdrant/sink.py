"""
Points to a collection: fenced by version, acknowledged before an epoch commits.

A write replaces a stored point unless the stored one is newer in the same Kafka partition, so
replays, retries and requests that overtake each other all end in the same collection.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from qdrant_client import models
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from typing_extensions import override

from fastembed_stream.errors import SettingError
from fastembed_stream.threads import Threads
from fastembed_stream.values import SparseEmbedding
from operators.decoding import RESERVED
from operators.metrics import FAILURES, POINTS_WRITTEN, RETRIES
from operators.outages import BrokenFlowError
from operators.points import Point, Points
from operators.qdrant.collection import Collection, check, prepare
from operators.qdrant.errors import is_refusal, is_too_large, is_transient, retry_after_s
from operators.qdrant.server import ENGINE_LOCK, Server
from operators.records import Failure, Failures, Vector
from operators.shards import shard_of, shard_parts
from operators.shutdown import STOP

__all__ = ["QdrantSink", "Writing", "fence", "requests_of"]

_LOG = logging.getLogger(__name__)

_BYTES_PER_NUMBER = 22
"""A float32 as JSON text, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """
    How points are sent.

    max_points  of one request; Qdrant advises 64 to 256
    max_bytes   of one request, under the server's limit of 32 MB
    in_flight   requests at a time of this process
    """

    max_points: int = 128
    max_bytes: int = 16 << 20
    in_flight: int = 4

    def __post_init__(self) -> None:
        for name in ("max_points", "max_bytes", "in_flight"):
            if getattr(self, name) < 1:
                msg = f"Writing({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)


FailureSink: TypeAlias = FixedPartitionedSink[Failures, None]


class QdrantSink(FixedPartitionedSink[Points, str]):
    """
    Points to a collection.

    refused  where points go that the server will never take; without it they end the flow

    Delivery: at least once, and a repeat changes nothing. An epoch commits when every request of
    it is acknowledged. Outages (connection, time-out, 429, 5xx, a full disk) are waited out and
    hold the flow back. After any crash, rescale or replay the collection equals that of one clean
    run: ids are the same, and an older version never replaces a newer one. Its state in the
    recovery store is the collection's identity: a flow does not go on half-way in another
    collection, which would stay without what was read before.
    """

    def __init__(
        self,
        server: Server,
        collection: Collection,
        writing: Writing = Writing(),
        *,
        refused: FailureSink | None = None,
    ) -> None:
        self._server = server
        self._collection = collection
        self._writing = writing
        self._refused = refused
        self._lock = threading.Lock()
        self._store: _Store | None = None

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start; parts are built only when the first point arrives.
        self._opened()
        if self._refused is not None:
            self._refused.list_parts()
        return shard_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: str | None
    ) -> StatefulSinkPartition[Points, str]:
        STOP.started = True
        store = self._opened()
        identity = store.identity()
        if resume_state is not None and resume_state != identity:
            raise _other_collection(step_id, resume_state, identity)
        refused = (
            None if self._refused is None else self._refused.build_part(step_id, for_part, None)
        )
        return _Partition(store, step_id, self._writing, refused)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)

    def _opened(self) -> _Store:
        with self._lock:
            if self._store is None:
                prepare(self._server, self._collection)
                self._store = _Store(self._server, self._collection, self._writing)
            return self._store


def _other_collection(step_id: str, known: str, found: str) -> BrokenFlowError:
    name, present = known.rpartition(" ")[0], found.rpartition(" ")[0]
    this = f"this is {present!r}" if name != present else "this one was made again"
    return BrokenFlowError(
        f"Step {step_id}: the recovery store belongs to collection {name!r}; {this}. What was "
        "read before would be missing from it: start with an empty recovery store to fill it."
    )


class _Partition(StatefulSinkPartition[Points, str]):
    """What one worker has sent and not yet heard of."""

    def __init__(
        self,
        store: _Store,
        step_id: str,
        writing: Writing,
        refused: StatefulSinkPartition[Failures, None] | None,
    ) -> None:
        self._store = store
        self._step_id = step_id
        self._writing = writing
        self._refused = refused
        self._sent: set[Future[Failures]] = set()

    @override
    def write_batch(self, values: list[Points]) -> None:
        for points in values:
            for request in requests_of(points, self._writing):
                if len(self._sent) >= self._writing.in_flight:
                    self._collect(wait(self._sent, return_when=FIRST_COMPLETED).done)
                self._sent.add(self._store.send(request))

    @override
    def snapshot(self) -> str:
        self._collect(wait(self._sent).done)
        if self._refused is not None:
            self._refused.snapshot()
        return self._store.identity()

    @override
    def close(self) -> None:
        if self._refused is not None:
            self._refused.close()

    def _collect(self, done: set[Future[Failures]]) -> None:
        for future in done:
            self._sent.discard(future)
            try:
                failures = future.result()
            except Exception as error:
                msg = f"Step {self._step_id}: {error}"
                raise BrokenFlowError(msg) from error
            if failures and self._refused is None:
                msg = f"Step {self._step_id}: Qdrant refused a point: {failures[0].reason}"
                raise BrokenFlowError(msg)
            if failures and self._refused is not None:
                self._refused.write_batch([failures])


class _Store:
    """A collection of one server, and the threads of this process that write to it."""

    def __init__(self, server: Server, collection: Collection, writing: Writing) -> None:
        self._lock = threading.Lock()
        self._identity: str | None = None
        self._server = server
        self._client = server.client()
        self._collection = collection
        self._threads = Threads(writing.in_flight, "qdrant")
        self._retrying = Retrying(
            retry=retry_if_exception(is_transient),
            wait=_wait,
            stop=lambda _: STOP.overdue,
            sleep=_nap,
            before_sleep=_log_retry,
            reraise=True,
        )

    def identity(self) -> str:
        """
        Give the collection's identity, as it was when the first part was built.

        Not when the collection was prepared: of several processes that adopt one at the same
        time the last gives it its id.
        """
        with self._lock:
            if self._identity is None:
                self._identity = self._retrying(self._checked)
            return self._identity

    def send(self, points: Points) -> Future[Failures]:
        """Write points in the background; the result is what the server will never take."""
        return self._threads.submit(self._answered, points)

    def _answered(self, points: Points) -> Failures:
        failures = self._written(points)
        if len(failures) == len(points):
            # No point is right: before all are given up, is it they, or is it the collection?
            self._ensure_same()
        FAILURES.labels("qdrant").inc(len(failures))
        return failures

    def _checked(self) -> str:
        try:
            with self._turn():
                return check(self._server, self._collection)
        except SettingError as error:
            raise BrokenFlowError(str(error)) from error

    def _ensure_same(self) -> None:
        if self._retrying(self._checked) != self.identity():
            msg = (
                f"Collection {self._collection.name!r} was made again while this flow wrote to it. "
                "Start with an empty recovery store to fill it."
            )
            raise BrokenFlowError(msg)

    def _turn(self) -> AbstractContextManager[object]:
        return ENGINE_LOCK if self._server.local else nullcontext()

    def _written(self, points: Points) -> Failures:
        try:
            self._retrying(self._upsert, points)
        except Exception as error:
            if len(points) > 1 and (is_refusal(error) or is_too_large(error)):
                half = len(points) // 2
                return self._written(points[:half]) + self._written(points[half:])
            if is_refusal(error) or is_too_large(error):
                return (Failure.of(points[0].origin, "qdrant", error),)
            if is_transient(error):
                msg = (
                    f"Qdrant has not taken {len(points)} points ({error}), and the time to drain "
                    "is over. They are repeated on resume."
                )
                raise BrokenFlowError(msg) from error
            raise
        POINTS_WRITTEN.inc(len(points))
        return ()

    def _upsert(self, points: Points) -> None:
        structs = [
            models.PointStruct(id=point.id, vector=_vectors(point), payload=dict(point.payload))
            for point in points
        ]
        with self._turn():
            self._client.upsert(
                self._collection.name, structs, update_filter=fence(points), wait=True
            )


def fence(points: Points) -> models.Filter:
    """
    Match the stored points that may be replaced: all but those of a newer version.

    Versions compare only within one Kafka partition, since offsets mean nothing between two.
    """
    return models.Filter(
        must_not=[
            models.Filter(
                must=[
                    models.HasIdCondition(has_id=[point.id]),
                    models.FieldCondition(
                        key=f"{RESERVED}.source",
                        match=models.MatchValue(value=point.origin.source),
                    ),
                    models.FieldCondition(
                        key=f"{RESERVED}.offset", range=models.Range(gt=point.origin.offset)
                    ),
                ]
            )
            for point in points
        ]
    )


def requests_of(points: Points, writing: Writing) -> Iterator[Points]:
    """Cut points into requests by count and bytes; of several with one id the last stays."""
    latest = {point.id: point for point in points}
    request: list[Point] = []
    size = 0
    for point in latest.values():
        n_numbers = sum(map(_size, point.vectors.values()))
        weight = point.size_bytes + _BYTES_PER_NUMBER * n_numbers
        if request and (len(request) >= writing.max_points or size + weight > writing.max_bytes):
            yield tuple(request)
            request, size = [], 0
        request.append(point)
        size += weight
    if request:
        yield tuple(request)


def _vectors(point: Point) -> dict[str, list[float] | list[list[float]] | models.SparseVector]:
    return {name: _plain(vector) for name, vector in point.vectors.items()}


def _plain(vector: Vector) -> list[float] | list[list[float]] | models.SparseVector:
    if isinstance(vector, SparseEmbedding):
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    plain: list[float] | list[list[float]] = vector.tolist()
    return plain


def _size(vector: Vector) -> int:
    """Count the numbers that travel; an index weighs as much as a value."""
    return 2 * vector.values.size if isinstance(vector, SparseEmbedding) else vector.size


_BACK_OFF = wait_random_exponential(multiplier=0.5, max=30)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = retry_after_s(error) if error else None
    return asked if asked is not None else _BACK_OFF(state)


def _nap(seconds: float) -> None:
    STOP.nap(seconds)


def _log_retry(state: RetryCallState) -> None:
    RETRIES.labels("qdrant").inc()
    error = state.outcome.exception() if state.outcome else None
    after = state.next_action.sleep if state.next_action else 0.0
    _LOG.warning("Qdrant: %s; again in %.1f s (try %d)", error, after, state.attempt_number)
