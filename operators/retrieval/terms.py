"""What one query asks for itself: its own filter and limit, taken from the record."""

from __future__ import annotations

import json
import reprlib
from typing import NoReturn

from qdrant_client import models

from operators.decoding import BadRecordError
from operators.records import Record
from operators.retrieval.filters import FilterError, parsed_filter

__all__ = ["filter_of", "limit_of"]

_LONGEST_TEXT = 1 << 20
"""Characters of a filter or a limit that comes as JSON text."""


def limit_of(record: Record, name: str | None, default: int, most: int) -> int:
    """
    Give how many hits a query wants.

    name    of the field, or the entry of the payload, that tells; None where none may
    raises  BadRecordError where it is no integer from 1 to `most`
    """
    limit = _told(record, name)
    if limit is None:
        return default
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
        # Not its whole repr: it can be megabytes long, or nested deeper than Python goes.
        msg = f"Its {name!r} is {reprlib.repr(limit)}; expected an integer from 1 to {most:,}."
        raise BadRecordError(msg)
    return limit


def filter_of(
    record: Record, name: str | None, everyones: models.Filter | None
) -> models.Filter | None:
    """
    Give which points a query may find: those that its own filter and everyone's let through.

    name    of the field, or the entry of the payload, that holds the filter; None where none may
    raises  BadRecordError where it is no filter as Qdrant's REST API has them
    """
    told = _told(record, name)
    if told is None:
        return everyones
    try:
        own = parsed_filter(told)
    except FilterError as error:
        msg = f"Its {name!r} {error}."
        raise BadRecordError(msg) from None
    return own if everyones is None else models.Filter(must=[everyones, own])


def _told(record: Record, name: str | None) -> object:
    """Give what a record says under a name: JSON text, or a value that was JSON before."""
    value = None if name is None else record.fields.get(name, record.payload.get(name))
    if not isinstance(value, str | bytes):
        return value
    if len(value) > _LONGEST_TEXT:
        msg = f"Its {name!r} has {len(value):,} characters; at most {_LONGEST_TEXT:,} are read."
        raise BadRecordError(msg)
    try:
        parsed: object = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        msg = f"Its {name!r} is not JSON: {error}. It starts with {value[:40]!r}."
        raise BadRecordError(msg) from None
    return parsed


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)
