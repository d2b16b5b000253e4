"""A collection that is read: compared when it is opened, then asked, however long it is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import grpc
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

from fastembed_stream.errors import SettingError
from fastembed_stream.threads import Threads
from operators.decoding import RESERVED
from operators.outages import BrokenFlowError
from operators.qdrant import Collection, Server
from operators.qdrant.errors import is_transient
from operators.qdrant.refusals import asked
from operators.qdrant.sending import Refused, Sending
from operators.qdrant.server import ENGINE_LOCK
from operators.retrieval.searches import Search
from operators.shutdown import STOP
from operators.spaces import Shape, VectorSpace

__all__ = ["Asking", "Question", "Reader"]

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

_LOWER_IS_BETTER = frozenset({models.Distance.EUCLID, models.Distance.MANHATTAN})

_ANSWERS = (UnexpectedResponse, grpc.RpcError)
"""What a server says, unlike what goes wrong here."""

Found: TypeAlias = list[models.ScoredPoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """
    How queries are sent.

    max_queries  of one request; the server works on them at once
    max_bytes    of one request, under the server's limit of 32 MB
    in_flight    requests at a time of this process
    attempts     tries of a request at which the server fails (500), before it is halved to find the
                 query that may be at fault
    """

    max_queries: int = 64
    max_bytes: int = 16 << 20
    in_flight: int = 4
    attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("max_queries", "max_bytes", "in_flight", "attempts"):
            if getattr(self, name) < 1:
                msg = f"Asking({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    One query in Qdrant's terms.

    size_bytes  about so many, as JSON
    name        which query it is, for the log
    """

    request: models.QueryRequest
    size_bytes: int
    name: str = ""


class Reader:
    """
    A collection that holds what the queries were made for.

    distances  how the collection compares each dense vector and multivector
    """

    def __init__(
        self, server: Server, collection: Collection, search: Search, asking: Asking
    ) -> None:
        """
        Compare the collection with what the queries bring; waits for a server that is away.

        raises  SettingError that says all that differs, or that there is no such collection
        """
        self._server = server
        self._client = server.client()
        self._collection = collection
        self._asking = asking
        self._lock = threading.Lock()
        self._threads: Threads | None = None
        self._sending = Sending[Question, Found](
            self._asked,
            attempts=asking.attempts,
            nap=_nap,
            noun="queries",
            name=lambda question: question.name,
        )
        self._waited(lambda: self._check_version(search))
        found = self._waited(self._described)
        wanted = {name: collection.vectors[name] for name in search.vectors}
        differences = _differences(found, wanted)
        if differences:
            msg = (
                f"Collection {collection.name!r} cannot be searched by this flow: "
                f"{'; '.join(differences)}. Choose another collection, or embed queries with the "
                "models that made it."
            )
            raise SettingError(msg)
        self.distances = {name: params.distance for name, params in _dense(found).items()}

    def lower_is_better(self, name: str) -> bool:
        """Tell whether the server gives a distance where others give a likeness."""
        return self.distances.get(name) in _LOWER_IS_BETTER

    def answers(self, questions: Sequence[Question]) -> list[Found | Refused]:
        """
        Ask all, in few requests, and give what was found for each, in their order.

        returns  in the place of what was found, what the server says of a query that it refuses
        raises   BrokenFlowError where it refuses all, as with a wrong key, and where the flow is
                 stopped while it is away
        """
        requests = list(_requests(questions, self._asking))
        if len(requests) == 1:
            return self._answered(requests[0])
        futures = [self._pool().submit(self._answered, request) for request in requests]
        return [found for future in futures for found in future.result()]

    def _pool(self) -> Threads:
        with self._lock:
            if self._threads is None:
                self._threads = Threads(self._asking.in_flight, "retrieve")
            return self._threads

    def _answered(self, questions: tuple[Question, ...]) -> list[Found | Refused]:
        try:
            return self._sending(questions)
        except Exception as error:
            if is_transient(error):
                msg = (
                    f"Qdrant has not answered {len(questions)} queries ({error}), and the time to "
                    "drain is over. They are repeated on resume."
                )
                raise BrokenFlowError(msg) from error
            if not isinstance(error, _ANSWERS):
                raise
            msg = f"Qdrant refuses all queries of collection {self._collection.name!r}: {error}"
            raise BrokenFlowError(msg) from error

    def _asked(self, questions: tuple[Question, ...]) -> list[Found]:
        requests = [question.request for question in questions]
        with self._turn():
            answers = self._client.query_batch_points(self._collection.name, requests)
        return [answer.points for answer in answers]

    def _turn(self) -> AbstractContextManager[object]:
        # The engine in this process puts vectors on length one again whenever it reads them.
        return ENGINE_LOCK if self._server.local else nullcontext()

    def _waited(self, ask: Callable[[], T]) -> T:
        return asked(self._server, ask)

    def _check_version(self, search: Search) -> None:
        if self._server.local or search.oldest_server is None:
            return
        version = self._client.info().version
        if tuple(map(int, version.split("-")[0].split(".")[:2])) < search.oldest_server:
            oldest = ".".join(map(str, search.oldest_server))
            msg = (
                f"Qdrant {version} cannot weigh the parts of {search}; expected {oldest} or newer. "
                "Upgrade the server, or leave out the weights."
            )
            raise SettingError(msg)

    def _described(self) -> models.CollectionInfo:
        name = self._collection.name
        try:
            with self._turn():
                return self._client.get_collection(name)
        except Exception as error:
            if is_transient(error):
                raise
            msg = (
                f"Collection {name!r} cannot be read: {error}. Name one that is there, or start "
                "the flow that fills it first."
            )
            raise SettingError(msg) from error


def _dense(found: models.CollectionInfo) -> Mapping[str, models.VectorParams]:
    vectors = found.config.params.vectors
    return vectors if isinstance(vectors, dict) else {"": vectors} if vectors else {}


def _differences(found: models.CollectionInfo, wanted: Mapping[str, VectorSpace]) -> list[str]:
    made_by = (found.config.metadata or {}).get(RESERVED) or {}
    dense = _dense(found)
    shapes: dict[str, Shape] = {
        **{name: "multi" if one.multivector_config else "dense" for name, one in dense.items()},
        **dict.fromkeys(found.config.params.sparse_vectors or {}, "sparse"),
    }
    differences: list[str] = []
    for name, space in wanted.items():
        shape, maker = shapes.get(name), made_by.get(name)
        if shape is None:
            there = ", ".join(map(repr, sorted(shapes))) or "none"
            differences.append(f"no vector {name!r}, it has {there}")
        elif shape != space.shape:
            differences.append(f"{name!r} is {shape} there, {space.shape} here")
        elif shape != "sparse" and dense[name].size != space.dim:
            size = dense[name].size
            differences.append(f"{name!r} has {size} dimensions, {space.model} {space.dim}")
        elif maker is None:
            _LOG.warning("Nothing tells what made vector %r; taking %s for it", name, space.model)
        elif maker["fingerprint"] != space.fingerprint:
            differences.append(
                f"{name!r} was made by {maker['model']} ({maker['fingerprint']}), the queries by "
                f"{space.model} ({space.fingerprint})"
            )
    return differences


def _requests(questions: Sequence[Question], asking: Asking) -> Iterator[tuple[Question, ...]]:
    """Cut questions into requests by count and bytes."""
    request: list[Question] = []
    size = 0
    for question in questions:
        full = len(request) >= asking.max_queries or size + question.size_bytes > asking.max_bytes
        if request and full:
            yield tuple(request)
            request, size = [], 0
        request.append(question)
        size += question.size_bytes
    if request:
        yield tuple(request)


def _nap(seconds: float) -> None:
    STOP.nap(seconds)
