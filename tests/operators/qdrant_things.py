"""What the tests of Qdrant share: points, collections of their own, and what is stored in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from qdrant_client import models

from fastembed_stream import SparseEmbedding
from operators import (
    Collection,
    DeadLetterFile,
    Identity,
    Part,
    Point,
    Points,
    QdrantSink,
    Server,
    VectorSpace,
    Writing,
)
from operators.points import point_of
from operators.records import Vector
from tests.operators.things import Lists, message, record
from tests.servers import RunningQdrant

DIM = 4
SPACE = VectorSpace(dim=DIM, model="m", fingerprint="f1", distance="dot")
SPARSE = VectorSpace(shape="sparse", model="s", fingerprint="f2", needs_idf=True)
LATE = VectorSpace(
    shape="multi", dim=DIM, model="c", fingerprint="f3", distance="dot", indexed=False
)
HYBRID = {"dense": SPACE, "words": SPARSE, "late": LATE}
SOURCE = Identity(collection="tests", source="tests")


def over_rest(server: RunningQdrant, **how: Any) -> Server:
    return Server(url=server.url, **how)


def over_grpc(server: RunningQdrant, **how: Any) -> Server:
    return Server(url=server.url, grpc=True, grpc_port=server.grpc_port, **how)


def collection(**spaces: VectorSpace) -> Collection:
    """Name a collection that no other test has."""
    return Collection(name=f"c{uuid.uuid4().hex[:12]}", vectors=spaces or {"dense": SPACE})


def point(
    key: int, offset: int = 0, *, partition: int = 0, text: str = "", dim: int = DIM
) -> Point:
    """Make a point; its vector tells its offset."""
    one = record(key, text or None)
    origin = message(partition=partition, offset=offset)
    vector = np.arange(offset, offset + dim).astype(np.float32)
    whole = type(one)(key=key, fields=one.fields, payload={"text": text}, origin=origin)
    return point_of(whole.with_vector("dense", vector, model="f1"), SOURCE, SOURCE.namespace)


def point_with(
    key: int | str, offset: int = 0, *, part: Part | None = None, source: str = "t", **told: Vector
) -> Point:
    """Make a point with the vectors that are told, by name."""
    one = record(0)
    origin = message(offset=offset, topic=source)
    whole = type(one)(
        key=key, fields={}, payload={}, origin=origin, vectors=told, models={}, part=part
    )
    return point_of(whole, SOURCE, SOURCE.namespace)


def parts(key: int | str, offset: int, count: int, *, source: str = "t", dim: int = DIM) -> Points:
    """Make all parts of one version of a document; their vectors tell version and part."""
    return tuple(
        point_with(
            key,
            offset,
            part=Part(number=number, count=count, start=9 * number, end=9 * number + 9),
            source=source,
            dense=np.full(dim, 100 * offset + number + 1, np.float32),
        )
        for number in range(count)
    )


def words(**weights: float) -> SparseEmbedding:
    """Make a sparse vector; `w7=0.5` is 0.5 at 7."""
    return SparseEmbedding.from_dict({int(name[1:]): weight for name, weight in weights.items()})


def points(keys: Iterable[int], **told: Any) -> Points:
    return tuple(point(key, **told) for key in keys)


def storing(sink: QdrantSink, batches: Sequence[Points]) -> Dataflow:
    """Build a flow that stores some batches, each from a partition of its own."""
    flow = Dataflow("storing")
    lists = {f"p{n}": [(f"0{n % 2}-0", one)] for n, one in enumerate(batches)}
    op.output("qdrant", op.input("in", flow, Lists(lists)), sink)
    return flow


def put(
    server: Server,
    where: Collection,
    batches: Sequence[Points],
    writing: Writing | None = None,
    refused: DeadLetterFile | None = None,
) -> None:
    """Store batches through one partition of a sink, up to the acknowledgement of all."""
    sink = QdrantSink(server, where, writing or Writing(), refused=refused)
    sink.list_parts()
    part = sink.build_part("flow.qdrant", "00", None)
    try:
        part.write_batch(list(batches))
        part.snapshot()
    finally:
        part.close()


def stored(server: Server, where: Collection) -> dict[Any, models.Record]:
    """Give all points by id."""
    found, _ = server.client().scroll(where.name, limit=10_000, with_vectors=True)
    return {one.id: one for one in found}


def offsets(server: Server, where: Collection) -> dict[Any, int]:
    """Give the version of each point by id."""
    return {
        key: (one.payload or {})["_stream"]["offset"] for key, one in stored(server, where).items()
    }


def stored_parts(server: Server, where: Collection) -> dict[str, list[tuple[int, int]]]:
    """Give (version, part) of all that is stored of each document, in order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for one in stored(server, where).values():
        stamp = (one.payload or {})["_stream"]
        found.setdefault(stamp["document"], []).append((stamp["offset"], stamp["chunk"]))
    return {document: sorted(some) for document, some in found.items()}
