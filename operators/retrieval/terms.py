"""What one query asks for itself: its own filter and limit, taken from the record."""

from __future__ import annotations

import json
from itertools import chain
from typing import NoReturn

from pydantic import ValidationError
from qdrant_client import models

from operators.decoding import BadRecordError
from operators.records import Record

__all__ = ["filter_of", "limit_of"]

_DEEPEST = 24
"""Levels of a filter. gRPC's messages nest 100 deep, and one filter takes four of them."""


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
        msg = f"Its {name!r} is {str(limit)[:40]}; expected an integer from 1 to {most:,}."
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
    _check_depth(told, name)
    try:
        own = models.Filter.model_validate(told)
    except ValidationError as error:
        msg = f"Its {name!r} is no filter of Qdrant: {_first_fault(error)}."
        raise BadRecordError(msg) from error
    return own if everyones is None else models.Filter(must=[everyones, own])


def _told(record: Record, name: str | None) -> object:
    """Give what a record says under a name: JSON text, or a value that was JSON before."""
    value = None if name is None else record.fields.get(name, record.payload.get(name))
    if not isinstance(value, str | bytes):
        return value
    try:
        parsed: object = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        msg = f"Its {name!r} is not JSON: {error}. It starts with {value[:40]!r}."
        raise BadRecordError(msg) from error
    return parsed


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _check_depth(told: object, name: str | None) -> None:
    """Refuse what a server would not read: over gRPC that looks like an outage, for ever."""
    level = [told]
    for _ in range(_DEEPEST):
        inner = (
            list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
            for one in level
        )
        level = list(chain.from_iterable(inner))
        if not level:
            return
    msg = f"Its {name!r} nests deeper than {_DEEPEST} levels. Flatten it."
    raise BadRecordError(msg)


def _first_fault(error: ValidationError) -> str:
    """Tell the fault that lies deepest: a condition fails as each of the kinds there are."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    deepest = max(faults, key=lambda fault: len(fault["loc"]))
    where = ".".join(str(step) for step in deepest["loc"] if "[" not in str(step))
    return f"{deepest['msg']} at {where or 'its top'}"
