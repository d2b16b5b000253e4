"""Records to points: an identity that never changes, a version, and what it was made of."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from fastembed_stream.errors import SettingError
from operators.decoding import RESERVED
from operators.metrics import FAILURES
from operators.numbers import check_numbers, check_vector
from operators.records import (
    Batch,
    Batches,
    Failure,
    Failures,
    Message,
    Part,
    Record,
    Vector,
    one_for_each_message,
)

__all__ = ["Identity", "Point", "PointSplit", "Points", "point_of", "to_points"]

_NAMESPACE = uuid.UUID("6f1c53a4-6f0e-5c8b-9d57-0d3c3f0a7c11")
"""This project's own name space, so that ids of other tools never meet ours."""

_MOST_INTEGER = (1 << 64) - 1
_SIGNED = 1 << 63
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""The one spelling that a store gives back; braces and the like would make two keys one point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    What makes a point's id, besides the record's key.

    collection  where the points go
    source      name for where keys come from; None takes each message's topic
    uuid_as_id  whether a key that is a UUID's text is the point's id as it is, as integers are;
                keys that are none get an id as ever. It changes the ids of points that are stored

    A `source` that several topics share lets one key of two of them be one point. The fence of
    the sink compares versions within one partition of one topic only, so of two topics that
    write the same key the last to arrive stays, and a replay may end with the other one.
    """

    collection: str
    source: str | None = None
    uuid_as_id: bool = False

    def __post_init__(self) -> None:
        if not self.collection:
            msg = "An identity needs the name of its collection; got an empty one."
            raise SettingError(msg)

    @property
    def namespace(self) -> uuid.UUID:
        """Give the collection's own name space."""
        return uuid.uuid5(_NAMESPACE, self.collection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """
    What is stored for one record.

    id          UUID text, or the record's own unsigned 64-bit integer
    document    id of the whole document, as text; the same for all its parts
    part        which part of that document it is; None where documents are not split
    vectors     by name: float32[dim], float32[n_tokens, dim], or a sparse one
    payload     the record's payload, with version and fingerprints under `_stream`
    size_bytes  at most so many bytes of payload as JSON
    origin      the message it came from
    """

    id: str | int
    document: str
    part: Part | None = None
    vectors: Mapping[str, Vector]
    payload: Mapping[str, object]
    size_bytes: int
    origin: Message


Points = tuple[Point, ...]


@dataclass(frozen=True)
class PointSplit:
    """Points that go on to the store, and failures on their way to the dead letters."""

    oks: Stream[tuple[str, Points]]
    errs: Stream[tuple[str, Failures]]


@operator
def to_points(
    step_id: str, up: Batches, *, identity: Identity, max_bytes: int = 1 << 24
) -> PointSplit:
    """
    Turn records into points.

    max_bytes  a payload larger than this is a failure: no request could carry it

    Delivery: stateless, and the same record always gives the same point.
    """
    made = op.flat_map_batch("make", up, partial(_made, identity, identity.namespace, max_bytes))
    return PointSplit(
        oks=op.flat_map_batch("oks", made, _points_only),
        errs=op.flat_map_batch("errs", made, _failures_only),
    )


def point_of(record: Record, identity: Identity, namespace: uuid.UUID) -> Point:
    """
    Turn one record into a point.

    A document's first part has the id of the whole, so that documents which were stored whole and
    are split from now on leave no whole one behind; each other part has an id of its own.

    raises  ValueError where the payload is not JSON
    """
    whole = _point_id(record, identity, namespace)
    document = str(whole)
    stamp: dict[str, object] = {
        "source": record.origin.source,
        "offset": record.origin.offset,
        "key": _stored_key(record.key),
        "timestamp_ms": record.origin.timestamp_ms,
        "content": {name: _digest(value) for name, value in record.fields.items()},
        "model": dict(record.models),
        **_omitted(record),
        **_place(document, record.part),
    }
    payload = {**record.payload, RESERVED: stamp}
    return Point(
        id=_part_id(whole, record.part, namespace),
        document=document,
        part=record.part,
        vectors=record.vectors,
        payload=payload,
        size_bytes=len(json.dumps(payload, allow_nan=False)),
        origin=record.origin,
    )


def _made(
    identity: Identity,
    namespace: uuid.UUID,
    max_bytes: int,
    items: list[tuple[str, Batch]],
) -> Iterable[tuple[str, tuple[Points, Failures]]]:
    for key, batch in items:
        points: list[Point] = []
        failures = list(batch.failures)
        for record in batch.records:
            try:
                _check(record)
                point = point_of(record, identity, namespace)
                if point.size_bytes > max_bytes:
                    msg = f"The payload has {point.size_bytes:,} bytes; at most {max_bytes:,} fit."
                    raise ValueError(msg)  # noqa: TRY301  one way out for both
                points.append(point)
            except (TypeError, ValueError, RecursionError) as error:
                failures.append(Failure.of(record.origin, "point", error))
                FAILURES.labels("point").inc()
        yield key, (tuple(points), one_for_each_message(tuple(failures)))


def _check(record: Record) -> None:
    """
    Check what one place would store and another refuse or bend.

    raises  ValueError that names the field or the vector, TypeError for a field without a name
    """
    names: Iterable[object] = record.payload  # of a flow's own code, which may not be checked
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        msg = f"The payload has a field named {odd!r}; expected text."
        raise TypeError(msg)
    check_numbers(record.payload)
    for name, vector in record.vectors.items():
        check_vector(name, vector)


def _points_only(items: list[tuple[str, tuple[Points, Failures]]]) -> Iterable[tuple[str, Points]]:
    return [(key, points) for key, (points, _) in items if points]


def _failures_only(
    items: list[tuple[str, tuple[Points, Failures]]],
) -> Iterable[tuple[str, Failures]]:
    return [(key, failures) for key, (_, failures) in items if failures]


def _point_id(record: Record, identity: Identity, namespace: uuid.UUID) -> str | int:
    key = record.key
    if isinstance(key, int) and 0 <= key <= _MOST_INTEGER:
        return key
    if identity.uuid_as_id and isinstance(key, str) and _UUID.fullmatch(key):
        return key.lower()
    source = identity.source or record.origin.topic
    kind = "integer\x1f" if isinstance(key, int) else ""
    # A topic has no unit separator in its name, so no two pairs give one text.
    return str(uuid.uuid5(namespace, f"{source}\x1f{kind}{key}"))


def _stored_key(key: str | int) -> str | int:
    """Give a key as any store can hold it: whole numbers have 64 bits there, with a sign."""
    return key if isinstance(key, str) or -_SIGNED <= key < _SIGNED else str(key)


def _part_id(whole: str | int, part: Part | None, namespace: uuid.UUID) -> str | int:
    if part is None or part.number == 0:
        return whole
    # A name space for each document: no key, whatever it holds, gives the id of another's part.
    return str(uuid.uuid5(uuid.uuid5(namespace, str(whole)), str(part.number)))


def _omitted(record: Record) -> dict[str, object]:
    """Keep what a part says of fields that it left out."""
    told = record.payload.get(RESERVED)
    names = ("omitted", "omitted_more")
    return {name: told[name] for name in names if name in told} if isinstance(told, dict) else {}


def _place(document: str, part: Part | None) -> dict[str, object]:
    if part is None:
        return {}
    return {
        "document": document,
        "chunk": part.number,
        "chunks": part.count,
        "start": part.start,
        "end": part.end,
    }


def _digest(value: str | bytes) -> str:
    """Fingerprint a field: 16 hexadecimal digits."""
    content = value.encode() if isinstance(value, str) else value
    return hashlib.blake2b(content, digest_size=8).hexdigest()
