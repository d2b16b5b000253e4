"""
A stranger's filter to Qdrant's model: bounded before it is read, and read up to its first fault.

A condition may be one of eight kinds, and the model tries each and keeps all that is wrong with
it as each kind: a third of a megabyte of nonsense became a gigabyte of faults. Here a condition
is read as the one kind that its names say, and lists of values are looked through before.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NoReturn, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from qdrant_client import models

from operators.numbers import check_numbers

__all__ = ["FilterError", "parsed_filter"]

_DEEPEST = 24
"""Levels of a filter. gRPC's messages nest 100 deep, and one filter takes four of them."""
_MOST_VALUES = 50_000
_MOST_CHARACTERS = 1 << 20
_MOST_NAMES = 16
"""Names of one object: no condition has as many."""
_MOST_CONDITIONS = 1_000
_MOST_OBJECTS = 1_000
"""Corners of a polygon, the only list of objects within a condition."""
_LARGEST_ID = (1 << 64) - 1
_FEW = 4
_LONGEST_NAME, _LONGEST_PLACE = 40, 200

_CLAUSES = ("should", "must", "must_not")
_MODELS: Mapping[str, type[BaseModel]] = {
    "key": models.FieldCondition,
    **{
        next(iter(kind.model_fields)): kind
        for kind in get_args(models.Condition)
        if kind not in {models.FieldCondition, models.Filter}
    },
}
"""Kinds of conditions by the name that tells them apart."""
_NUMBERS = {"range", "geo_bounding_box", "geo_radius", "geo_polygon"}

_Object: TypeAlias = Mapping[str, Any]


class FilterError(ValueError):
    """What is wrong with a filter: the rest of a sentence that begins with its name."""


def parsed_filter(told: object) -> models.Filter:
    """
    Read a filter as Qdrant's REST API has them.

    told    what was JSON before
    raises  FilterError for the first fault
    """
    _check_size(told)
    try:
        check_numbers(_without_ids(told), "has a number that no place can look for:")
    except ValueError as error:
        raise FilterError(str(error).rstrip(".")) from None
    return _filter(told, ())


def _check_size(told: object) -> None:
    """Refuse what a server would not read: over gRPC that looks like an outage, for ever."""
    level: list[Any] = [told]
    n_values = n_characters = 0
    for _ in range(_DEEPEST + 1):
        n_values += len(level)
        n_characters += sum(len(one) for one in level if isinstance(one, str))
        objects = [one for one in level if isinstance(one, dict)]
        n_characters += sum(len(name) for one in objects for name in one)
        if n_values > _MOST_VALUES or n_characters > _MOST_CHARACTERS:
            msg = (
                f"is too large: at most {_MOST_VALUES:,} values and {_MOST_CHARACTERS:,} "
                "characters are read"
            )
            raise FilterError(msg)
        inner = (
            list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
            for one in level
        )
        level = list(chain.from_iterable(inner))
        if not level:
            return
    msg = f"nests deeper than {_DEEPEST} levels. Flatten it"
    raise FilterError(msg)


def _without_ids(told: object) -> object:
    """Leave out ids, which are unsigned: `_check_ids` knows how large they may be."""
    if isinstance(told, dict):
        return {name: _without_ids(one) for name, one in told.items() if name != "has_id"}
    return [_without_ids(one) for one in told] if isinstance(told, list) else told


def _filter(told: object, at: tuple[str, ...]) -> models.Filter:
    whole = _object(told, at)
    for name in whole:
        if name not in models.Filter.model_fields:
            _refuse("Extra inputs are not permitted", (*at, name))
    clauses: dict[str, Any] = {
        name: _conditions(whole[name], (*at, name))
        for name in _CLAUSES
        if whole.get(name) is not None
    }
    least = whole.get("min_should")
    if least is not None:
        clauses["min_should"] = _min_should(least, (*at, "min_should"))
    return models.Filter(**clauses)


def _min_should(told: object, at: tuple[str, ...]) -> models.MinShould:
    least = _object(told, at)
    conditions = _conditions(least.get("conditions"), (*at, "conditions"))
    rest: _Object = {**least, "conditions": []}
    made = _validated(models.MinShould, rest, at)
    if made.min_count < 0:
        _refuse("Input should be at least 0", (*at, "min_count"))
    return models.MinShould(conditions=conditions, min_count=made.min_count)


def _conditions(told: object, at: tuple[str, ...]) -> list[Any]:
    if isinstance(told, dict):
        return [_condition(told, at)]
    if not isinstance(told, list):
        _refuse("Input should be a list of conditions", at)
    if len(told) > _MOST_CONDITIONS:
        _refuse(f"Expected at most {_MOST_CONDITIONS:,} conditions, got {len(told):,}", at)
    return [_condition(one, (*at, str(n))) for n, one in enumerate(told)]


def _condition(told: object, at: tuple[str, ...]) -> Any:  # noqa: ANN401  one of the eight kinds
    whole = _object(told, at)
    if not whole or any(name in models.Filter.model_fields for name in whole):
        return _filter(whole, at)
    kind = next((_MODELS[name] for name in _MODELS if name in whole), None)
    if kind is None:
        known = ", ".join([*_MODELS, *_CLAUSES])
        _refuse(f"No condition; expected one of {known}", at)
    if kind is models.NestedCondition:
        return _nested(whole, at)
    condition = _validated(kind, _cut(whole, at), at)
    if isinstance(condition, models.FieldCondition):
        _check_field(condition, at)
    else:
        _check_ids(whole.get("has_id"), (*at, "has_id"))
    return _validated(kind, whole, at)


def _nested(whole: _Object, at: tuple[str, ...]) -> models.NestedCondition:
    inner = _object(whole["nested"], (*at, "nested"))
    own = _filter(inner.get("filter"), (*at, "nested", "filter"))
    told = {**whole, "nested": {**inner, "filter": own}}
    nested: models.NestedCondition = _validated(models.NestedCondition, told, at)
    return nested


def _object(told: object, at: tuple[str, ...]) -> _Object:
    if not isinstance(told, dict):
        _refuse("Input should be an object", at)
    if len(told) > _MOST_NAMES:
        _refuse(f"Expected at most {_MOST_NAMES} names, got {len(told):,}", at)
    return told


def _cut(told: Any, at: tuple[str, ...]) -> Any:  # noqa: ANN401  JSON
    """
    Look through a condition, and leave a few of each list: what a few are wrong in, all are.

    raises  FilterError for a list that is too mixed or too long for the model to read cheaply
    """
    if isinstance(told, dict):
        return {name: _cut(one, (*at, name)) for name, one in _object(told, at).items()}
    if not isinstance(told, list):
        return told
    kinds = {type(one) for one in told}
    plain = kinds <= ({int, str} if at[-1] == "has_id" else {int}) or kinds == {str}
    if not plain and len(told) > (_MOST_OBJECTS if kinds == {dict} else _FEW):
        _refuse(f"Expected a list of integers or of texts, got {len(told):,} others", at)
    return told[:_FEW] if plain else [_cut(one, (*at, str(n))) for n, one in enumerate(told)]


def _check_field(condition: models.FieldCondition, at: tuple[str, ...]) -> None:
    """Check what the model takes and a server does not: texts for numbers, such as 'inf'."""
    try:
        check_numbers(condition.model_dump(include=_NUMBERS))
    except ValueError as error:
        _refuse(str(error).rstrip("."), at)
    counts = condition.values_count
    if counts is not None and any(count < 0 for _, count in counts if count is not None):
        _refuse("Input should be at least 0", (*at, "values_count"))


def _check_ids(ids: Sequence[object] | None, at: tuple[str, ...]) -> None:
    for n, one in enumerate(ids or ()):
        if isinstance(one, int) and one < 0:
            _refuse("Input should be at least 0", (*at, str(n)))
        if isinstance(one, int) and one > _LARGEST_ID:
            _refuse("Input should be at most 2^64-1", (*at, str(n)))
        if isinstance(one, str):
            try:
                uuid.UUID(one)
            except ValueError:
                _refuse("Input should be a UUID or an integer", (*at, str(n)))


def _validated(kind: Any, told: _Object, at: tuple[str, ...]) -> Any:  # noqa: ANN401  its model
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        # The fault that lies deepest: a match fails as each of the kinds there are.
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        deepest = max(faults, key=lambda fault: len(fault["loc"]))
        steps = (str(step) for step in deepest["loc"] if "[" not in str(step))
        _refuse(deepest["msg"], (*at, *steps))


def _refuse(what: str, at: tuple[str, ...]) -> NoReturn:
    where = ".".join(_shortened(at)) or "its top"
    if len(where) > _LONGEST_PLACE:
        where = f"{where[:_LONGEST_PLACE]}..."
    msg = f"is no filter of Qdrant: {what} at {where}"
    raise FilterError(msg)


def _shortened(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
