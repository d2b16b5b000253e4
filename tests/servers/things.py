"""A collection with every kind of vector, its points, and a client to it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qdrant_client import QdrantClient, models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import RunningQdrant

DIM = 4
DENSE, MULTI, SPARSE = "dense", "late", "words"
NAME = "things"
COMMON = 1_000_000  # An index that every point has, and none as its number.


@contextmanager
def connected(server: RunningQdrant, **settings: Any) -> Iterator[QdrantClient]:
    client = QdrantClient(
        url=server.url, grpc_port=server.grpc_port, check_compatibility=False, **settings
    )
    try:
        yield client
    finally:
        client.close()


def create(client: QdrantClient, name: str = NAME) -> None:
    late = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        name,
        vectors_config={
            DENSE: models.VectorParams(size=DIM, distance=models.Distance.COSINE),
            MULTI: models.VectorParams(
                size=DIM, distance=models.Distance.DOT, multivector_config=late
            ),
        },
        sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
        hnsw_config=models.HnswConfigDiff(m=8),
        metadata={"model": "a"},
    )


def point(number: int, version: int = 1) -> models.PointStruct:
    return models.PointStruct(
        id=number,
        vector={
            DENSE: [float(number), 1.0, 0.0, 0.0],
            MULTI: [[float(number), 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]],
            SPARSE: models.SparseVector(indices=[number, COMMON], values=[1.0, 0.5]),
        },
        payload={"version": version, "text": f"number {number}"},
    )


def stored(client: QdrantClient, number: int) -> models.Record:
    [record] = client.retrieve(NAME, [number], with_vectors=True)
    return record


def numbers(client: QdrantClient) -> list[Any]:
    points, _ = client.scroll(NAME, limit=1000)
    return [record.id for record in points]
