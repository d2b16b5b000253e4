"""
The engine behind both doors: each operation of the server, over qdrant-client's local mode.

An operation takes the REST model of its request and returns the REST model of its answer; the
doors only translate. One lock serves one request at a time, so the engine needs no more care.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import QdrantClient
from qdrant_client.http import models
from qdrant_client.local.qdrant_local import QdrantLocal

from tests.servers.faults import Refusal
from tests.servers.ledger import Ledger
from tests.servers.strictness import check_vectors, refuse_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qdrant_client.local.local_collection import LocalCollection

NOT_FOUND, CONFLICT, UNPROCESSABLE, SERVICE_ERROR = 404, 409, 422, 500
IN_MEMORY = ":memory:"
EPSILON = 1.1920929e-7  # As the local engine's: below it a vector has no direction.


class Engine:
    """The collections under one path, or in memory."""

    def __init__(self, location: str, stats: Callable[[int], None]) -> None:
        """
        Open what is stored.

        location  a folder, or ":memory:"
        stats     is told the points of each upsert that was applied
        """
        self._lock = threading.Lock()
        self._count_upsert = stats
        self._n_writes = 0
        stored = location != IN_MEMORY
        self.client = QdrantClient(
            location=None if stored else IN_MEMORY,
            path=location if stored else None,
            # Any of the server's threads may write, one at a time: the lock sees to that.
            force_disable_check_same_thread=True,
        )
        local = self.client._client
        if not isinstance(local, QdrantLocal):
            message = f"Expected qdrant-client's local mode, got {type(local).__name__}."
            raise TypeError(message)
        self.local = local
        self.ledger = Ledger(Path(location) / "ledger.json" if stored else None)
        for collection in self.local.collections.values():
            commit_quickly(collection)
            restore(collection)

    def run(self, operation: str, collection: str, request: object, *, wait: bool = True) -> Any:
        """
        Do one operation.

        collection  its name, "" where the operation has none
        request     the model that OPERATIONS names, None where it names none
        raises      Refusal
        """
        with self._lock, refusals():
            answer = OPERATIONS[operation].apply(self, collection, request)
            if not isinstance(answer, models.UpdateResult):
                return answer
            self._n_writes += 1
            done, heard = models.UpdateStatus.COMPLETED, models.UpdateStatus.ACKNOWLEDGED
            status = done if wait else heard
            return models.UpdateResult(operation_id=self._n_writes, status=status)

    # Collections

    def create(self, name: str, request: models.CreateCollection) -> bool:
        if name in self.local.collections:
            raise Refusal(CONFLICT, f"Wrong input: Collection `{name}` already exists!")
        # The ledger first: killed between the two, there is no collection, and no harm.
        self.ledger.create(name, request)
        self.local.create_collection(
            name, request.vectors, request.sparse_vectors, metadata=request.metadata
        )
        commit_quickly(self.local.collections[name])
        return True

    def update(self, name: str, request: models.UpdateCollection) -> bool:
        self.known(name)
        self.local.update_collection(
            name, request.sparse_vectors, request.metadata, vectors_config=request.vectors
        )
        self.ledger.update(name, request)
        return True

    def drop(self, name: str, _: None) -> bool:
        collection = self.local.collections.get(name)
        if collection is not None:
            collection.close()
        self.ledger.drop(name)
        return self.local.delete_collection(name)

    def exists(self, name: str, _: None) -> models.CollectionExistence:
        return models.CollectionExistence(exists=self.local.collection_exists(name))

    def names(self, _name: str, _: None) -> models.CollectionsResponse:
        return self.local.get_collections()

    def info(self, name: str, _: None) -> models.CollectionInfo:
        info = self.ledger.complete(name, self.known(name).info())
        for field, schema in self.ledger.indexes(name).items():
            is_empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
            having = self.local.count(name, models.Filter(must_not=[is_empty]))
            info.payload_schema[field] = index_info(schema, having.count)
        return info

    def create_index(self, name: str, request: models.CreateFieldIndex) -> models.UpdateResult:
        collection = self.known(name)
        if request.field_schema is None:
            message = f"Can't auto-detect field type, please specify it: {request.field_name}"
            refuse_input(message)
        # Past the client's own method, which warns that an index changes nothing here.
        collection.create_payload_index(request.field_name, request.field_schema)
        self.ledger.add_index(name, request.field_name, request.field_schema)
        return written()

    def delete_index(self, name: str, field: str) -> models.UpdateResult:
        self.known(name)
        self.ledger.remove_index(name, field)
        return written()

    # Points, written

    def upsert(
        self, name: str, request: models.PointsList | models.PointsBatch
    ) -> models.UpdateResult:
        collection = self.known(name)
        points = points_of(request)
        check_vectors(collection.config, (point.vector for point in points))
        result = self.local.upsert(name, points, request.update_filter, request.update_mode)
        self._count_upsert(len(points))
        return result

    def update_vectors(self, name: str, request: models.UpdateVectors) -> models.UpdateResult:
        collection = self.known(name)
        check_vectors(collection.config, (point.vector for point in request.points))
        return self.local.update_vectors(name, request.points, request.update_filter)

    def delete_vectors(self, name: str, request: models.DeleteVectors) -> models.UpdateResult:
        self.known(name)
        return self.local.delete_vectors(name, request.vector, selected(request))

    def delete(self, name: str, request: models.PointsSelector) -> models.UpdateResult:
        self.known(name)
        return self.local.delete(name, request)

    def set_payload(self, name: str, request: models.SetPayload) -> models.UpdateResult:
        self.known(name)
        return self.local.set_payload(name, request.payload, selected(request), request.key)

    def overwrite_payload(self, name: str, request: models.SetPayload) -> models.UpdateResult:
        self.known(name)
        return self.local.overwrite_payload(name, request.payload, selected(request))

    def delete_payload(self, name: str, request: models.DeletePayload) -> models.UpdateResult:
        self.known(name)
        return self.local.delete_payload(name, request.keys, selected(request))

    def clear_payload(self, name: str, request: models.PointsSelector) -> models.UpdateResult:
        self.known(name)
        return self.local.clear_payload(name, request)

    def batch(self, name: str, request: models.UpdateOperations) -> list[models.UpdateResult]:
        """Apply each in turn; like the server, keep those before the one that is refused."""
        return [self.step(name, operation) for operation in request.operations]

    def step(self, name: str, operation: models.UpdateOperation) -> models.UpdateResult:
        """Apply one of a batch: a model with one field, named like the operation."""
        [kind] = type(operation).model_fields
        result: models.UpdateResult = OPERATIONS[kind].apply(self, name, getattr(operation, kind))
        return result

    # Points, read

    def retrieve(self, name: str, request: models.PointRequest) -> list[models.Record]:
        self.known(name)
        payload = True if request.with_payload is None else request.with_payload
        return self.local.retrieve(name, request.ids, payload, request.with_vector or False)

    def count(self, name: str, request: models.CountRequest) -> models.CountResult:
        self.known(name)
        return self.local.count(name, request.filter)

    def scroll(self, name: str, request: models.ScrollRequest) -> models.ScrollResult:
        self.known(name)
        points, offset = self.local.scroll(
            name,
            request.filter,
            limit_of(request.limit),
            request.order_by,
            request.offset,
            True if request.with_payload is None else request.with_payload,
            request.with_vector or False,
        )
        return models.ScrollResult(points=points, next_page_offset=offset)

    def query(self, name: str, request: models.QueryRequest) -> models.QueryResponse:
        self.known(name)
        # Through the client, which knows a bare vector or id for the query that it stands for.
        return self.client.query_points(
            name,
            request.query,
            using=request.using,
            prefetch=request.prefetch,
            query_filter=request.filter,
            search_params=request.params,
            limit=limit_of(request.limit),
            offset=request.offset,
            with_payload=request.with_payload or False,
            with_vectors=request.with_vector or False,
            score_threshold=request.score_threshold,
            lookup_from=request.lookup_from,
        )

    def query_batch(
        self, name: str, request: models.QueryRequestBatch
    ) -> list[models.QueryResponse]:
        return [self.query(name, one) for one in request.searches]

    def known(self, name: str) -> LocalCollection:
        """Return the collection or refuse."""
        if name not in self.local.collections:
            raise Refusal(NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")
        return self.local.collections[name]


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the table below: what is done, and the model of its request, if it has one."""

    apply: Callable[[Engine, str, Any], Any]
    request: Any = None


OPERATIONS = {
    "create": Operation(Engine.create, models.CreateCollection),
    "update": Operation(Engine.update, models.UpdateCollection),
    "drop": Operation(Engine.drop),
    "exists": Operation(Engine.exists),
    "list": Operation(Engine.names),
    "info": Operation(Engine.info),
    "create_index": Operation(Engine.create_index, models.CreateFieldIndex),
    "delete_index": Operation(Engine.delete_index, str),
    "upsert": Operation(Engine.upsert, models.PointInsertOperations),
    "update_vectors": Operation(Engine.update_vectors, models.UpdateVectors),
    "delete_vectors": Operation(Engine.delete_vectors, models.DeleteVectors),
    "delete": Operation(Engine.delete, models.PointsSelector),
    "set_payload": Operation(Engine.set_payload, models.SetPayload),
    "overwrite_payload": Operation(Engine.overwrite_payload, models.SetPayload),
    "delete_payload": Operation(Engine.delete_payload, models.DeletePayload),
    "clear_payload": Operation(Engine.clear_payload, models.PointsSelector),
    "batch": Operation(Engine.batch, models.UpdateOperations),
    "retrieve": Operation(Engine.retrieve, models.PointRequest),
    "count": Operation(Engine.count, models.CountRequest),
    "scroll": Operation(Engine.scroll, models.ScrollRequest),
    "query": Operation(Engine.query, models.QueryRequest),
    "query_batch": Operation(Engine.query_batch, models.QueryRequestBatch),
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the local engine raises into what a server answers."""
    try:
        yield
    except KeyError as missing:
        # Raised by the writes to points that must exist, with the first id that does not.
        raise Refusal(NOT_FOUND, f"Not found: No point with id {missing} found") from missing
    except ValueError as error:
        refuse_input(str(error))


def index_info(schema: models.PayloadFieldSchema, n_points: int) -> models.PayloadIndexInfo:
    """Tell of an index that was asked for by its type alone, or with parameters."""
    if isinstance(schema, models.PayloadSchemaType):
        return models.PayloadIndexInfo(data_type=schema, points=n_points)
    kind = models.PayloadSchemaType(schema.type.value)
    return models.PayloadIndexInfo(data_type=kind, params=schema, points=n_points)


def written() -> models.UpdateResult:
    """Answer a write that the engine has nothing to say about; `run` numbers it."""
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def limit_of(asked: int | None) -> int:
    """Return the limit or its default; the server validates it apart from the rest."""
    if asked is not None and asked < 1:
        message = (
            f"Validation error in JSON body: [limit: value {asked} invalid, must be 1 or larger]"
        )
        raise Refusal(UNPROCESSABLE, message)
    return 10 if asked is None else asked


def selected(
    request: models.SetPayload | models.DeletePayload | models.DeleteVectors,
) -> list[models.ExtendedPointId] | models.Filter:
    """Return the points that a write names: ids win over a filter, as on the server."""
    if request.points is not None:
        return request.points
    if request.filter is None:
        refuse_input("No filter or points provided")
    return request.filter


def points_of(request: models.PointsList | models.PointsBatch) -> list[models.PointStruct]:
    """Return the points of either form of an upsert."""
    if isinstance(request, models.PointsList):
        return request.points
    batch = request.batch
    n_points = len(batch.ids)
    payloads: Sequence[models.Payload | None] = batch.payloads or [None] * n_points
    columns = batch.vectors if isinstance(batch.vectors, dict) else {"": batch.vectors}
    if {n_points} != {len(payloads), *map(len, columns.values())}:
        refuse_input("number of ids, vectors and payloads must be equal")
    rows = [{name: column[at] for name, column in columns.items()} for at in range(n_points)]
    return [
        models.PointStruct(id=point_id, vector=vector, payload=payload)
        for point_id, vector, payload in zip(batch.ids, rows, payloads, strict=True)
    ]


def commit_quickly(collection: LocalCollection) -> None:
    """
    Commit each point without waiting for the disk.

    The engine commits point by point; what the kernel holds outlives a SIGKILL, and these tests
    do not pull the plug.
    """
    if collection.storage is not None:
        collection.storage.storage.execute("PRAGMA journal_mode=WAL")
        collection.storage.storage.execute("PRAGMA synchronous=OFF")


def restore(collection: LocalCollection) -> None:
    """
    Give loaded vectors the form that written ones have: float32, of unit length under cosine.

    The engine stores what was sent and forgets on loading what it did to it, so that a point
    would read differently after a restart.
    """
    for name, rows in collection.vectors.items():
        collection.vectors[name] = in_form(rows, collection.vectors_config[name])
    for name, vectors in collection.multivectors.items():
        params = collection.multivectors_config[name]
        collection.multivectors[name] = [in_form(rows, params) for rows in vectors]


def in_form(rows: np.ndarray[Any, Any], params: models.VectorParams) -> np.ndarray[Any, Any]:
    """Return float32[n_rows, dim] of float[n_rows, dim]."""
    rows = rows.astype(np.float32)
    if params.distance != models.Distance.COSINE:
        return rows
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: np.ndarray[Any, Any] = rows / np.where(lengths > EPSILON, lengths, np.float32(1))
    return unit
