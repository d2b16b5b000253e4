"""Points to requests: cut by count and bytes, one version of each document, fenced by version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qdrant_client import models

from fastembed_stream.errors import SettingError
from fastembed_stream.values import SparseEmbedding
from operators.decoding import RESERVED
from operators.points import Point, Points
from operators.records import Message, Vector

__all__ = ["AS_JSON", "AS_PROTOBUF", "Writing", "fence", "is_later", "requests_of"]

AS_JSON = 22
"""Bytes of a float32 as JSON text, at most: its 17 digits as a double, and what stands around."""
AS_PROTOBUF = 4
"""Bytes of a float32 over gRPC; what stands around each row of them is little beside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """
    How points are sent.

    max_points  of one request; Qdrant advises 64 to 256
    max_bytes   of one request, under the server's limit of 32 MB
    in_flight   requests at a time of this process
    attempts    tries of a request at which the server fails (500), before it is halved to find the
                point that may be at fault
    """

    max_points: int = 128
    max_bytes: int = 16 << 20
    in_flight: int = 4
    attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("max_points", "max_bytes", "in_flight", "attempts"):
            if getattr(self, name) < 1:
                msg = f"Writing({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)


def requests_of(
    points: Points, writing: Writing, *, bytes_per_number: int = AS_JSON
) -> Iterator[Points]:
    """Cut points into requests by count and bytes; of a document's versions the newest stays."""
    request: list[Point] = []
    size = 0
    for point in _newest(points):
        n_numbers = sum(map(_size, point.vectors.values()))
        weight = point.size_bytes + bytes_per_number * n_numbers
        if request and (len(request) >= writing.max_points or size + weight > writing.max_bytes):
            yield tuple(request)
            request, size = [], 0
        request.append(point)
        size += weight
    if request:
        yield tuple(request)


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


def is_later(origin: Message, than: Message) -> bool:
    """Tell whether one message, which came after the other, holds the newer version."""
    return origin.source != than.source or origin.offset >= than.offset


def _newest(points: Points) -> list[Point]:
    """Keep each document's newest version alone, and of several points with one id the last."""
    newest: dict[str, Message] = {}
    for point in points:
        if point.document not in newest or is_later(point.origin, newest[point.document]):
            newest[point.document] = point.origin
    kept = {
        point.id: point
        for point in points
        if (point.origin.source, point.origin.offset)
        == (newest[point.document].source, newest[point.document].offset)
    }
    return list(kept.values())


def _size(vector: Vector) -> int:
    """Count the numbers that travel; an index weighs as much as a value."""
    return 2 * vector.values.size if isinstance(vector, SparseEmbedding) else vector.size
