"""
Payloads of parts, within a bound.

Each part of a document is stored with the document's payload. A thousand parts with a payload of
a megabyte would be a gigabyte: so the largest fields are left out, and the part says which.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from operators.decoding import RESERVED

__all__ = ["payloads_of_parts"]

Payload: TypeAlias = Mapping[str, object]
Way: TypeAlias = tuple[str, ...]

_AROUND_A_FIELD = 4
"""Colon, comma and two spaces in JSON."""

_NAMES_TOLD = 20
_LONGEST_NAME = 100


def payloads_of_parts(
    payload: Payload, text: str, parts: Sequence[str], *, path: str | None, most: int
) -> list[Payload]:
    """
    Give each part's payload: the document's, with the part where that has the whole text.

    path  where the payload has the text, dots go into nested objects
    most  bytes that all have together, as JSON. Where they would have more, each leaves out the
          largest fields but that of the text; `_stream.omitted` tells their names and bytes

    raises  ValueError where even then they have more
    """
    if len(parts) == 1:
        return [payload]
    common = payload if path is None else _put(payload, path, text, "")
    has_text = path is not None and common != payload
    n_own = sum(map(_bytes, parts)) if has_text else 0
    room = (most - n_own) // len(parts)
    size = _bytes(common)
    if size > room:
        common = _within(common, room, spare=path if has_text else None)
        size = _bytes(common)
    if size > room:
        msg = (
            f"The payloads of {len(parts):,} parts would have {size * len(parts) + n_own:,} bytes "
            f"together; at most {most:,} are allowed. Store fewer fields, raise the bound, or make "
            "parts longer."
        )
        raise ValueError(msg)
    if path is None or not has_text:
        return [common] * len(parts)
    return [_put(common, path, "", part) for part in parts]


def _bytes(value: object) -> int:
    # What is no JSON is refused where the point is made.
    return len(json.dumps(value, default=str))


def _put(payload: Payload, path: str, old: str, new: str) -> Payload:
    """Put a text where the payload holds the old one; elsewhere the payload stays."""
    if payload.get(path) == old:
        return {**payload, path: new}
    outer, dot, inner = path.partition(".")
    nested = payload.get(outer)
    if not dot or not isinstance(nested, Mapping):
        return payload
    return {**payload, outer: _put(nested, inner, old, new)}


def _within(payload: Payload, room: int, *, spare: str | None) -> Payload:
    """Leave out the largest fields, but one, until the payload fits, and tell which."""
    size = _bytes(payload)
    gone: dict[Way, int] = {}
    for n_bytes, way in sorted(_sizes(payload, spare), key=lambda one: (-one[0], one[1])):
        if size + _bytes(_told(gone)) <= room:
            break
        gone[way] = n_bytes
        size -= n_bytes
    return {**_without(payload, gone.keys()), **_told(gone)} if gone else payload


def _told(gone: Mapping[Way, int]) -> Payload:
    omitted: dict[str, object] = {
        ".".join(way)[:_LONGEST_NAME]: n_bytes for way, n_bytes in islice(gone.items(), _NAMES_TOLD)
    }
    told: dict[str, object] = {"omitted": omitted}
    if len(gone) > _NAMES_TOLD:
        told["omitted_more"] = len(gone) - _NAMES_TOLD
    return {RESERVED: told}


def _sizes(payload: Payload, spare: str | None, outside: Way = ()) -> Iterator[tuple[int, Way]]:
    """Give the fields that may go: how many bytes each has, and the way to it."""
    outer, _, inner = (spare or "").partition(".")
    for name, value in payload.items():
        if name == spare:
            continue
        if inner and name == outer and spare not in payload and isinstance(value, Mapping):
            yield from _sizes(value, inner, (*outside, name))
        else:
            yield _bytes(name) + _bytes(value) + _AROUND_A_FIELD, (*outside, name)


def _without(payload: Payload, gone: Collection[Way], outside: Way = ()) -> Payload:
    """Leave out what is gone; objects on the way to it are copied."""
    nested = {way[len(outside)] for way in gone if way[: len(outside)] == outside}
    kept: dict[str, object] = {}
    for name, value in payload.items():
        way = (*outside, name)
        if way in gone:
            continue
        if name in nested and isinstance(value, Mapping):
            kept[name] = _without(value, gone, way)
        else:
            kept[name] = value
    return kept
