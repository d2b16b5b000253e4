"""
Points to a collection: fenced by version, acknowledged before an epoch commits.

A write replaces a stored point unless the stored one is newer in the same Kafka partition, so
replays, retries and requests that overtake each other all end in the same collection.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from fastembed_stream.errors import SettingError
from fastembed_stream.threads import Threads
from operators.metrics import FAILURES, POINTS_WRITTEN
from operators.outages import BrokenFlowError
from operators.points import Point, Points
from operators.qdrant.collection import Collection, check, prepare
from operators.qdrant.errors import is_transient
from operators.qdrant.parts import Document, documents_of, settle
from operators.qdrant.requests import AS_JSON, AS_PROTOBUF, Writing, fence, requests_of
from operators.qdrant.sending import Sending, ServerFaultError, patient, place_of
from operators.qdrant.server import ENGINE_LOCK, Server
from operators.qdrant.stored import stored_point
from operators.qdrant.wire import upsert
from operators.records import Failure, Failures
from operators.shards import shard_of, shard_parts
from operators.shutdown import STOP

__all__ = ["QdrantSink"]

_STAGE = "qdrant"

T = TypeVar("T")
FailureSink: TypeAlias = FixedPartitionedSink[Failures, None]


class QdrantSink(FixedPartitionedSink[Points, str]):
    """
    Points to a collection.

    refused  where points go that the server will never take; without it they end the flow

    Delivery: at least once, and a repeat changes nothing. An epoch commits when every request of
    it is acknowledged. Outages (connection, time-out, 429, 5xx, a full disk) are waited out and
    hold the flow back; a point that gets 500 alone each time, while others pass, is refused. After
    any crash, rescale or replay the collection equals that of one clean run: ids are the same, and
    an older version never replaces a newer one. Its state in the recovery store is the collection's
    identity: a flow does not go on half-way in another collection, which would stay without what
    was read before.

    Of a document that comes in parts, those of one version alone are there when an epoch commits:
    after all its writes are acknowledged, parts of other versions are deleted, also where an
    older version was replayed last. Its parts may come in several batches, and of a version that
    is refused as a whole nothing is deleted. A part comes back from the dead only where a request
    that was given up (a time-out, a crash) reaches the server after all, later than its repetition
    and than that deletion; it then stays until the document is written again. Until the commit,
    and where documents are not split any more, old parts can be found.
    """

    def __init__(
        self,
        server: Server,
        collection: Collection,
        writing: Writing = Writing(),  # noqa: B008  frozen
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
        self._sent: set[Future[_Answer]] = set()
        self._taken: dict[str, Document] = {}

    @override
    def write_batch(self, values: list[Points]) -> None:
        for points in values:
            for request in self._store.requests(points):
                if len(self._sent) >= self._writing.in_flight:
                    self._collect(wait(self._sent, return_when=FIRST_COMPLETED).done)
                self._sent.add(self._store.send(request))

    @override
    def snapshot(self) -> str:
        self._collect(wait(self._sent).done)
        self._settle()
        if self._refused is not None:
            self._refused.snapshot()
        return self._store.identity()

    @override
    def close(self) -> None:
        if self._refused is not None:
            self._refused.close()

    def _settle(self) -> None:
        """Delete stale parts: only now is no write of their documents under way any more."""
        settling = self._store.settle(self._taken)
        for future in wait(settling).done:
            self._set_aside(self._result(future))
        self._taken.clear()

    def _collect(self, done: set[Future[_Answer]]) -> None:
        for future in done:
            self._sent.discard(future)
            answer = self._result(future)
            self._taken.update(documents_of(answer.taken))
            self._set_aside(answer.failures)

    def _set_aside(self, failures: Failures) -> None:
        if failures and self._refused is None:
            msg = f"Step {self._step_id}: Qdrant refused a point: {failures[0].reason}"
            raise BrokenFlowError(msg)
        if failures and self._refused is not None:
            self._refused.write_batch([failures])

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except Exception as error:
            msg = f"Step {self._step_id}: {error}"
            raise BrokenFlowError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the server took of a request, and what it will never take."""

    taken: Points = ()
    failures: Failures = ()


class _Store:
    """A collection of one server, and the threads of this process that write to it."""

    def __init__(self, server: Server, collection: Collection, writing: Writing) -> None:
        self._lock = threading.Lock()
        self._identity: str | None = None
        self._server = server
        self._client = server.client()
        self._collection = collection
        self._writing = writing
        self._threads = Threads(writing.in_flight, "qdrant")
        self._writing_points = Sending[Point, None](
            self._upsert,
            attempts=writing.attempts,
            nap=_nap,
            noun="points",
            name=_name_of,
            repeated=self._keep_repeated,
            another=self._stored,
        )
        self._repeated: dict[str, Document] = {}
        self._settling = Sending[Document, None](
            self._settle, attempts=writing.attempts, nap=_nap, noun="documents", name=_parts_of
        )

    def identity(self) -> str:
        """
        Give the collection's identity, as it was when the first part was built.

        Not when the collection was prepared: of several processes that adopt one at the same
        time the last gives it its id.
        """
        with self._lock:
            if self._identity is None:
                self._identity = patient(_nap)(self._checked)
            return self._identity

    def requests(self, points: Points) -> Iterator[Points]:
        """Cut points into requests for the door that they go through."""
        weight = AS_PROTOBUF if self._server.grpc else AS_JSON
        return requests_of(points, self._writing, bytes_per_number=weight)

    def send(self, points: Points) -> Future[_Answer]:
        """Write points in the background; the result says what the server took."""
        return self._threads.submit(self._answered, points)

    def settle(self, documents: Mapping[str, Document]) -> list[Future[Failures]]:
        """Delete stale parts of documents in the background; the results are what fails at it."""
        with self._lock:
            # What was written once more may by now be a part that had been deleted as stale.
            rest = iter({**self._repeated, **documents}.values())
            self._repeated.clear()
        settling = []
        while some := tuple(islice(rest, self._writing.max_points)):
            settling.append(self._threads.submit(self._settled, some))
        return settling

    def _stored(self, but: Sequence[Point]) -> Point | None:
        return stored_point(self._client, self._collection.name, but)

    def _keep_repeated(self, point: Point) -> None:
        with self._lock:
            self._repeated.update(documents_of((point,)))

    def _settled(self, documents: tuple[Document, ...]) -> Failures:
        failures = []
        for document, outcome in zip(documents, self._settling(documents), strict=True):
            if outcome is None:
                continue
            if not isinstance(outcome.error, ServerFaultError):
                raise outcome.error  # a server that refuses this refuses it for every document
            msg = f"Its stale parts are still there. {outcome.error}"
            error = ServerFaultError(msg)
            failures.append(Failure.of(document.origin, _STAGE, error))
        FAILURES.labels(_STAGE).inc(len(failures))
        return tuple(failures)

    def _settle(self, documents: tuple[Document, ...]) -> list[None]:
        with self._turn():
            versions = {document.id: document.version for document in documents}
            settle(self._client, self._collection.name, versions)
        return [None] * len(documents)

    def _answered(self, points: Points) -> _Answer:
        answer = self._written(points)
        if not answer.taken:
            # No point is right: before all are given up, is it they, or is it the collection?
            self._ensure_same()
        POINTS_WRITTEN.inc(len(answer.taken))
        FAILURES.labels(_STAGE).inc(len(answer.failures))
        return answer

    def _checked(self) -> str:
        try:
            with self._turn():
                return check(self._server, self._collection)
        except SettingError as error:
            raise BrokenFlowError(str(error)) from error

    def _ensure_same(self) -> None:
        if patient(_nap)(self._checked) != self.identity():
            msg = (
                f"Collection {self._collection.name!r} was made again while this flow wrote to it. "
                "Start with an empty recovery store to fill it."
            )
            raise BrokenFlowError(msg)

    def _turn(self) -> AbstractContextManager[object]:
        return ENGINE_LOCK if self._server.local else nullcontext()

    def _written(self, points: Points) -> _Answer:
        try:
            outcomes = self._writing_points(points)
        except Exception as error:
            if is_transient(error):
                msg = (
                    f"Qdrant has not taken {len(points)} points ({error}), and the time to drain "
                    "is over. They are repeated on resume."
                )
                raise BrokenFlowError(msg) from error
            raise
        pairs = list(zip(points, outcomes, strict=True))
        return _Answer(
            taken=tuple(point for point, outcome in pairs if outcome is None),
            failures=tuple(
                Failure.of(point.origin, _STAGE, outcome.error)
                for point, outcome in pairs
                if outcome is not None
            ),
        )

    def _upsert(self, points: Points) -> list[None]:
        with self._turn():
            upsert(self._server, self._collection.name, points, fence(points))
        return [None] * len(points)


def _name_of(point: Point) -> str:
    return f"point {point.id} ({place_of(point.origin)})"


def _parts_of(document: Document) -> str:
    return f"stale parts of document {document.id} ({place_of(document.origin)})"


def _nap(seconds: float) -> None:
    STOP.nap(seconds)
