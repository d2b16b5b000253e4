"""
Points as Qdrant's client sends them, by the cheapest way of each door.

What a call costs its thread, in milliseconds for each of 128 points of a dense 384 and a
multivector of 100 x 128: with the client's checked models 1.6 over REST and 1.2 over gRPC, and as
here 1.4 and 0.1. The checks are left out, since the server makes them again; REST has to make text
of each number all the same, while a gRPC message takes the bytes of an array as they are. So
multivectors go by gRPC where speed counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from fastembed_stream.values import SparseEmbedding
from operators.points import Point, Points
from operators.qdrant.server import Server
from operators.records import Vector

__all__ = ["plain", "upsert"]

_Plain: TypeAlias = list[float] | list[list[float]] | models.SparseVector


def upsert(server: Server, collection: str, points: Points, replaceable: models.Filter) -> None:
    """
    Write points, and wait until they are written.

    A vector without numbers is left out of its point: a text without words has no sparse one, and
    a server refuses a multivector of no tokens. A point without any vector is its payload alone.

    replaceable  stored points that do not match it stay as they are
    """
    if server.grpc:
        message = _message(collection, points, replaceable)
        server.client().grpc_points.Upsert(message, timeout=server.whole_timeout_s)
        return
    # The engine in this process keeps arrays; as lists they would be taken apart and put together.
    as_sent = _for_engine if server.local else plain
    structs = [_struct(point, as_sent) for point in points]
    server.client().upsert(collection, structs, update_filter=replaceable, wait=True)


def _struct(point: Point, as_sent: Callable[[Vector], Any]) -> models.PointStruct:
    return models.PointStruct.model_construct(
        id=point.id,
        vector={name: as_sent(vector) for name, vector in _vectors(point)},
        payload=dict(point.payload),
    )


def _for_engine(vector: Vector) -> Any:  # noqa: ANN401  more than the models tell is taken
    return plain(vector) if isinstance(vector, SparseEmbedding) else vector


def plain(vector: Vector) -> _Plain:
    """Give a vector as the client's REST models have it."""
    if isinstance(vector, SparseEmbedding):
        return models.SparseVector.model_construct(
            indices=vector.indices.tolist(), values=vector.values.tolist()
        )
    plain: list[float] | list[list[float]] = vector.tolist()
    return plain


def _message(collection: str, points: Points, replaceable: models.Filter) -> grpc.UpsertPoints:
    message = grpc.UpsertPoints(
        collection_name=collection,
        wait=True,
        update_filter=RestToGrpc.convert_filter(replaceable),
    )
    for point in points:
        one = message.points.add(
            id=RestToGrpc.convert_extended_point_id(point.id),
            payload=RestToGrpc.convert_payload(dict(point.payload)),
        )
        # Filled in place: a message that is put into another is copied, row by row.
        one.vectors.vectors.SetInParent()  # a point without vectors still says that it has none
        for name, vector in _vectors(point):
            _fill(one.vectors.vectors.vectors[name], vector)
    return message


def _fill(message: grpc.Vector, vector: Vector) -> None:
    if isinstance(vector, SparseEmbedding):
        message.sparse.indices.extend(vector.indices.tolist())
        message.sparse.values.extend(vector.values.tolist())
    elif vector.ndim == 1:
        message.dense.MergeFromString(_rows(vector[None], _dense_head(vector.size)))
    else:
        message.multi_dense.MergeFromString(_rows(vector, _multi_head(vector.shape[1])))


def _rows(vectors: NDArray[np.float32], head: NDArray[np.uint8]) -> bytes:
    """
    Encode rows of numbers, each after its head.

    vectors  float32[n_rows, dim]
    head     uint8[n_head], what stands before the bytes of one row's numbers
    """
    numbers = np.ascontiguousarray(vectors, "<f4").view(np.uint8)
    encoded = np.empty((len(numbers), head.size + numbers.shape[1]), np.uint8)
    encoded[:, : head.size] = head
    encoded[:, head.size :] = numbers
    return encoded.tobytes()


@cache
def _dense_head(dim: int) -> NDArray[np.uint8]:
    """Let the library encode zeros, and keep what it wrote before them."""
    return _before(grpc.DenseVector(data=[0.0] * dim).SerializeToString(), dim)


@cache
def _multi_head(dim: int) -> NDArray[np.uint8]:
    one_row = grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=[0.0] * dim)])
    return _before(one_row.SerializeToString(), dim)


def _before(encoded: bytes, dim: int) -> NDArray[np.uint8]:
    return np.frombuffer(encoded[: len(encoded) - 4 * dim], np.uint8)


def _vectors(point: Point) -> list[tuple[str, Vector]]:
    return [(name, vector) for name, vector in point.vectors.items() if not _is_empty(vector)]


def _is_empty(vector: Vector) -> bool:
    if isinstance(vector, SparseEmbedding):
        return vector.values.size == 0
    # A dense vector of no numbers is a mistake: the server refuses it.
    return vector.ndim > 1 and len(vector) == 0
