"""
The gRPC door: the same operations, by the messages that qdrant-client ships.

A reset cannot be had at the level of one call; what a client sees of one is UNAVAILABLE, and so
is this.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from qdrant_client import grpc as q
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.http import models

from tests.servers.faults import Carried, HangUp, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.qdrant_rest import House

N_THREADS = 32
Code = grpc.StatusCode

CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ALREADY_EXISTS,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
    507: Code.INTERNAL,  # A full disk is a service error; this protocol has no finer code.
}


def as_is(value: Any) -> Any:
    return value


def field(message: Any, name: str, convert: Callable[[Any], Any] = as_is) -> Any:
    """Convert an optional field; None where it is not set."""
    return convert(getattr(message, name)) if message.HasField(name) else None


# Requests: a message to the model that REST would have had.


def to_create(m: q.CreateCollection) -> models.CreateCollection:
    convert = GrpcToRest
    return models.CreateCollection(
        vectors=field(m, "vectors_config", convert.convert_vectors_config),
        sparse_vectors=field(m, "sparse_vectors_config", convert.convert_sparse_vector_config),
        hnsw_config=field(m, "hnsw_config", convert.convert_hnsw_config_diff),
        optimizers_config=field(m, "optimizers_config", convert.convert_optimizers_config_diff),
        wal_config=field(m, "wal_config", convert.convert_wal_config_diff),
        quantization_config=field(m, "quantization_config", convert.convert_quantization_config),
        strict_mode_config=field(m, "strict_mode_config", convert.convert_strict_mode_config),
        shard_number=field(m, "shard_number"),
        replication_factor=field(m, "replication_factor"),
        write_consistency_factor=field(m, "write_consistency_factor"),
        on_disk_payload=field(m, "on_disk_payload"),
        metadata=convert.convert_payload(m.metadata) or None,
    )


def to_upsert(m: q.UpsertPoints) -> models.PointsList:
    if any(not point.HasField("vectors") for point in m.points):
        raise Refusal(400, "Expected some vectors")
    return models.PointsList(
        points=[GrpcToRest.convert_point_struct(point) for point in m.points],
        update_filter=field(m, "update_filter", GrpcToRest.convert_filter),
        update_mode=field(m, "update_mode", GrpcToRest.convert_update_mode),
    )


def to_update_vectors(m: q.UpdatePointVectors) -> models.UpdateVectors:
    return models.UpdateVectors(
        points=[GrpcToRest.convert_point_vectors(point) for point in m.points],
        update_filter=field(m, "update_filter", GrpcToRest.convert_filter),
    )


def to_set_payload(m: q.SetPayloadPoints) -> models.SetPayload:
    selector = field(m, "points_selector", GrpcToRest.convert_points_selector)
    return models.SetPayload(
        payload=GrpcToRest.convert_payload(m.payload),
        points=getattr(selector, "points", None),
        filter=getattr(selector, "filter", None),
        key=field(m, "key"),
    )


def to_retrieve(m: q.GetPoints) -> models.PointRequest:
    return models.PointRequest(
        ids=[GrpcToRest.convert_point_id(point_id) for point_id in m.ids],
        with_payload=field(m, "with_payload", GrpcToRest.convert_with_payload_selector) or False,
        with_vector=field(m, "with_vectors", GrpcToRest.convert_with_vectors_selector),
    )


def to_scroll(m: q.ScrollPoints) -> models.ScrollRequest:
    return models.ScrollRequest(
        filter=field(m, "filter", GrpcToRest.convert_filter),
        limit=field(m, "limit"),
        offset=field(m, "offset", GrpcToRest.convert_point_id),
        order_by=field(m, "order_by", GrpcToRest.convert_order_by),
        with_payload=field(m, "with_payload", GrpcToRest.convert_with_payload_selector) or False,
        with_vector=field(m, "with_vectors", GrpcToRest.convert_with_vectors_selector),
    )


def to_index(m: q.CreateFieldIndexCollection) -> models.CreateFieldIndex:
    name = q.FieldType.Name(m.field_type).removeprefix("FieldType").lower()
    params = field(m, "field_index_params", GrpcToRest.convert_payload_schema_params)
    return models.CreateFieldIndex(
        field_name=m.field_name, field_schema=params or models.PayloadSchemaType(name)
    )


def to_batch(m: q.UpdateBatchPoints) -> models.UpdateOperations:
    steps = [GrpcToRest.convert_points_update_operation(step) for step in m.operations]
    return models.UpdateOperations(operations=steps)


# Answers: the model that REST would have had to a message.


def from_info(info: models.CollectionInfo) -> q.GetCollectionInfoResponse:
    return q.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))


def from_list(found: models.CollectionsResponse) -> q.ListCollectionsResponse:
    rows = [q.CollectionDescription(name=row.name) for row in found.collections]
    return q.ListCollectionsResponse(collections=rows)


def from_exists(found: models.CollectionExistence) -> q.CollectionExistsResponse:
    return q.CollectionExistsResponse(result=q.CollectionExists(exists=found.exists))


def from_done(done: bool) -> q.CollectionOperationResponse:  # noqa: FBT001 - the answer is a bool
    return q.CollectionOperationResponse(result=done)


def from_write(result: models.UpdateResult) -> q.PointsOperationResponse:
    return q.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))


def from_batch(results: list[models.UpdateResult]) -> q.UpdateBatchResponse:
    return q.UpdateBatchResponse(result=[RestToGrpc.convert_update_result(r) for r in results])


def from_retrieve(records: list[models.Record]) -> q.GetResponse:
    return q.GetResponse(result=[RestToGrpc.convert_retrieved_point(r) for r in records])


def from_count(counted: models.CountResult) -> q.CountResponse:
    return q.CountResponse(result=q.CountResult(count=counted.count))


def from_scroll(page: models.ScrollResult) -> q.ScrollResponse:
    offset = page.next_page_offset
    return q.ScrollResponse(
        result=[RestToGrpc.convert_retrieved_point(r) for r in page.points],
        next_page_offset=None if offset is None else RestToGrpc.convert_extended_point_id(offset),
    )


def from_query(found: models.QueryResponse) -> q.QueryResponse:
    return q.QueryResponse(result=[RestToGrpc.convert_scored_point(p) for p in found.points])


def to_query_batch(m: q.QueryBatchPoints) -> models.QueryRequestBatch:
    return models.QueryRequestBatch(searches=[QUERY(one) for one in m.query_points])


def from_query_batch(answers: list[models.QueryResponse]) -> q.QueryBatchResponse:
    found = [[RestToGrpc.convert_scored_point(p) for p in one.points] for one in answers]
    return q.QueryBatchResponse(result=[q.BatchResult(result=points) for points in found])


@dataclass(frozen=True, slots=True)
class Call:
    """One method of a service."""

    service: str
    method: str
    message: Any
    operation: str
    request: Callable[[Any], Any]
    answer: Callable[[Any], Any]


def nothing(_: object) -> None:
    """Stand for the request of an operation that has none."""


def selector_of(m: q.DeletePoints) -> models.PointsSelector:
    return GrpcToRest.convert_points_selector(m.points)


def count_of(m: q.CountPoints) -> models.CountRequest:
    return models.CountRequest(filter=field(m, "filter", GrpcToRest.convert_filter))


C, P = "qdrant.Collections", "qdrant.Points"
UPDATE = GrpcToRest.convert_update_collection
QUERY = GrpcToRest.convert_query_points
CALLS = (
    Call(C, "Get", q.GetCollectionInfoRequest, "info", nothing, from_info),
    Call(C, "List", q.ListCollectionsRequest, "list", nothing, from_list),
    Call(C, "CollectionExists", q.CollectionExistsRequest, "exists", nothing, from_exists),
    Call(C, "Create", q.CreateCollection, "create", to_create, from_done),
    Call(C, "Update", q.UpdateCollection, "update", UPDATE, from_done),
    Call(C, "Delete", q.DeleteCollection, "drop", nothing, from_done),
    Call(P, "Upsert", q.UpsertPoints, "upsert", to_upsert, from_write),
    Call(P, "UpdateVectors", q.UpdatePointVectors, "update_vectors", to_update_vectors, from_write),
    Call(P, "UpdateBatch", q.UpdateBatchPoints, "batch", to_batch, from_batch),
    Call(P, "Delete", q.DeletePoints, "delete", selector_of, from_write),
    Call(P, "SetPayload", q.SetPayloadPoints, "set_payload", to_set_payload, from_write),
    Call(P, "CreateFieldIndex", q.CreateFieldIndexCollection, "create_index", to_index, from_write),
    Call(P, "Get", q.GetPoints, "retrieve", to_retrieve, from_retrieve),
    Call(P, "Count", q.CountPoints, "count", count_of, from_count),
    Call(P, "Scroll", q.ScrollPoints, "scroll", to_scroll, from_scroll),
    Call(P, "Query", q.QueryPoints, "query", QUERY, from_query),
    Call(P, "QueryBatch", q.QueryBatchPoints, "query_batch", to_query_batch, from_query_batch),
)


def answer(house: House, call: Call, message: Any, context: Any) -> Any:
    """Serve one call; what REST refuses with a status is aborted with the code of that status."""
    if house.api_key not in {None, dict(context.invocation_metadata()).get("api-key")}:
        context.abort(
            Code.UNAUTHENTICATED, "Must provide an API key or an Authorization bearer token"
        )
    try:
        carried = Carried(
            size_bytes=message.ByteSize(),
            content=message.SerializeToString,
            n_items=lambda: count_items(message),
        )
        return house.gate.serve(call.operation, carried, lambda: apply(house, call, message))
    except HangUp:
        context.abort(Code.UNAVAILABLE, "Connection reset by peer")
    except Refusal as refusal:
        if refusal.retry_after_s is not None:
            context.set_trailing_metadata((("retry-after", str(refusal.retry_after_s)),))
        context.abort(CODES.get(refusal.status, Code.INTERNAL), refusal.message)


def count_items(message: Any) -> int:
    """Count the points or queries of a request."""
    several: Any = getattr(message, "points", None) or getattr(message, "query_points", None)
    return len(several) if hasattr(several, "__len__") else 0


def apply(house: House, call: Call, message: Any) -> Any:
    try:
        request = call.request(message)
    except ValueError as error:
        raise Refusal(400, f"Malformed message: {error}") from error
    # Absent, `wait` is false on the wire too; reads have none.
    wait = bool(getattr(message, "wait", True))
    name = getattr(message, "collection_name", "")
    return call.answer(house.engine.run(call.operation, name, request, wait=wait))


def greet(house: House) -> q.HealthCheckReply:
    return q.HealthCheckReply(title="qdrant - vector search engine", version=house.version)


def handler(message: Any, serve: Callable[[Any, Any], Any]) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        serve,
        request_deserializer=message.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )


def open_server(house: House, port: int) -> Any:
    """
    Listen on a port of the loopback and return the server.

    raises  RuntimeError where the port is taken
    """
    server = grpc.server(
        ThreadPoolExecutor(N_THREADS),
        options=(
            ("grpc.max_receive_message_length", -1),
            # Else two servers could share one port, and a test would talk to either.
            ("grpc.so_reuseport", 0),
        ),
    )
    methods: dict[str, dict[str, Any]] = {
        "qdrant.Qdrant": {"HealthCheck": handler(q.HealthCheckRequest, lambda *_: greet(house))}
    }
    for call in CALLS:
        serve = lambda message, context, call=call: answer(house, call, message, context)  # noqa: E731 - bound to its call
        methods.setdefault(call.service, {})[call.method] = handler(call.message, serve)
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, handlers)
            for service, handlers in methods.items()
        )
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server
