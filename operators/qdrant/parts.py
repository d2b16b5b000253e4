"""
Stale parts of documents out of a collection.

A fence keeps an older version from replacing a newer point, but it cannot keep a point away that
is not there: a document that shrank leaves parts behind, and an older version that is replayed
brings them back. So after the writes the collection is asked for parts of any other version, and
only the newest version that it holds stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient, models

from operators.decoding import RESERVED
from operators.points import Point
from operators.records import Message

__all__ = ["Document", "Version", "documents_of", "settle"]

_PAGE = 256
"""Parts of other versions that are looked at in one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """
    One version of a document.

    source  log that it came from
    offset  of its message there
    count   its parts
    """

    source: str
    offset: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    A document that has parts among what was written.

    id       the same for all its parts
    version  that was written
    origin   the message it came from
    """

    id: str
    version: Version
    origin: Message


def documents_of(points: Iterable[Point]) -> dict[str, Document]:
    """Give each document that has parts among the points, by its id."""
    return {
        point.document: Document(
            id=point.document,
            version=Version(
                source=point.origin.source, offset=point.origin.offset, count=point.part.count
            ),
            origin=point.origin,
        )
        for point in points
        if point.part is not None
    }


def settle(client: QdrantClient, collection: str, written: Mapping[str, Version]) -> None:
    """
    Delete all parts of documents but those of the newest version that the collection holds.

    Most often one question is all: no other version is there.

    written  a version of each document that was written; the collection may hold a newer one
    """
    newest = dict(written)
    while found := _others(client, collection, newest):
        _raise(newest, found)
        stale = models.FilterSelector(filter=_filter(newest, keep_newer=True))
        client.delete(collection, stale, wait=True)


def _others(
    client: QdrantClient, collection: str, newest: Mapping[str, Version]
) -> list[Mapping[str, Any]]:
    """Give the stamps of stored parts that belong to no version of `newest`."""
    found, _ = client.scroll(
        collection,
        scroll_filter=_filter(newest, keep_newer=False),
        limit=_PAGE,
        with_payload=[
            f"{RESERVED}.{name}" for name in ("document", "source", "offset", "chunk", "chunks")
        ],
        with_vectors=False,
    )
    return [(one.payload or {}).get(RESERVED) or {} for one in found]


def _raise(newest: dict[str, Version], found: Iterable[Mapping[str, Any]]) -> None:
    """Put what is newer in the place of what was written; each round raises one or deletes one."""
    for stamp in found:
        known = newest[stamp["document"]]
        if stamp.get("source") == known.source:
            is_newer = stamp.get("offset", -1) > known.offset
        else:
            # Of two logs the last to write stays: the one whose first part is there, since both
            # have one id for it.
            is_newer = stamp.get("chunk") == 0
        if is_newer:
            newest[stamp["document"]] = Version(
                source=stamp["source"], offset=stamp["offset"], count=stamp["chunks"]
            )


def _filter(newest: Mapping[str, Version], *, keep_newer: bool) -> models.Filter:
    """Match parts that belong to no version of `newest`, nor, if these are kept, to a newer one."""
    return models.Filter(
        # Beside the details, since one look into an index is faster than one for each document.
        must=[_field("document", match=models.MatchAny(any=list(newest)))],
        should=[
            models.Filter(
                must=[_field("document", match=models.MatchValue(value=document))],
                must_not=_kept(version, keep_newer=keep_newer),
            )
            for document, version in newest.items()
        ],
    )


def _kept(version: Version, *, keep_newer: bool) -> list[models.Condition]:
    source = _field("source", match=models.MatchValue(value=version.source))
    same: list[models.Condition] = [
        source,
        _field("offset", match=models.MatchValue(value=version.offset)),
        _field("chunk", range=models.Range(lt=version.count)),
    ]
    newer: list[models.Condition] = [
        source,
        _field("offset", range=models.Range(gt=version.offset)),
    ]
    return [models.Filter(must=some) for some in ([same, newer] if keep_newer else [same])]


def _field(
    name: str,
    *,
    match: models.Match | None = None,
    range: models.Range | None = None,  # noqa: A002  as the condition has it
) -> models.FieldCondition:
    return models.FieldCondition(key=f"{RESERVED}.{name}", match=match, range=range)
