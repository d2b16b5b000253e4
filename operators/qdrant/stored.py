"""
A point that is stored already, to be written once more.

Whether a server that fails at a point works at all is seen by what else it takes. A flow that was
just started, and reads that one point again, has written nothing else yet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from fastembed_stream.values import SparseEmbedding
from operators.decoding import RESERVED
from operators.points import Point
from operators.records import Message, Vector

__all__ = ["stored_point"]

_SOURCE = re.compile(r"(?P<topic>.+?)/(?P<partition>\d+)(?:@(?P<log>.*))?", re.DOTALL)
"""`Message.source`: no topic has a slash, but the id of a log may have one."""


def stored_point(client: QdrantClient, collection: str, but: Sequence[Point]) -> Point | None:
    """
    Give a point of the collection as it is stored, with the version that it has there.

    Written again it changes nothing: the fence keeps what is newer by then. Of documents in parts
    it is a first one, which is never stale.

    but      any but these
    returns  None where there is no other
    """
    suspects = models.HasIdCondition(has_id=[one.id for one in but])
    later_part = models.FieldCondition(key=f"{RESERVED}.chunk", range=models.Range(gt=0))
    stamped = models.FieldCondition(key=f"{RESERVED}.offset", range=models.Range(gte=0))
    found, _ = client.scroll(
        collection,
        scroll_filter=models.Filter(
            must=[stamped],
            must_not=[later_part, suspects],
        ),
        limit=1,
        with_payload=True,
        with_vectors=True,
    )
    return next((point for one in found if (point := _point(one)) is not None), None)


def _point(record: models.Record) -> Point | None:
    payload = record.payload or {}
    stamp: dict[str, Any] = payload.get(RESERVED) or {}
    source = _SOURCE.fullmatch(str(stamp.get("source")))
    if source is None or not isinstance(record.vector, dict):
        return None  # not as this project writes them
    origin = Message(
        topic=source["topic"],
        partition=int(source["partition"]),
        offset=stamp["offset"],
        key=None,
        value=None,
        log=source["log"] or "",
    )
    return Point(
        id=record.id if isinstance(record.id, int) else str(record.id),
        document=str(stamp.get("document", record.id)),
        vectors={name: _vector(vector) for name, vector in record.vector.items()},
        payload=payload,
        size_bytes=0,
        origin=origin,
    )


def _vector(told: Any) -> Vector:  # noqa: ANN401  each kind of vector that a client knows
    if isinstance(told, models.SparseVector):
        return SparseEmbedding(
            indices=np.array(told.indices, np.int64), values=np.array(told.values, np.float32)
        )
    return np.array(told, np.float32)
