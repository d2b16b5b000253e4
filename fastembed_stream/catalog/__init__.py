"""
Every model known by name: the rows that ship, and the user's own.

Two models may share a name where they are of different kinds, such as the text and the image side
of CLIP.

>>> find("baai/BGE-small-en-v1.5").dim
384
"""

from __future__ import annotations

import difflib

from fastembed_stream.catalog import (
    cross_encoder,
    dense_text,
    image,
    late_multimodal,
    late_text,
    sparse_text,
)
from fastembed_stream.errors import SettingError, UnknownModelError
from fastembed_stream.kinds import DENSE_TEXT, Kind
from fastembed_stream.model import Model
from fastembed_stream.threads import ForkSafeLock

__all__ = ["add", "find", "is_shipped", "models", "named", "names"]

_LOCK = ForkSafeLock()
_SHIPPED = (
    *dense_text.MODELS,
    *sparse_text.MODELS,
    *late_text.MODELS,
    *image.MODELS,
    *late_multimodal.MODELS,
    *cross_encoder.MODELS,
)
_ROWS: dict[tuple[str, str], Model] = {
    (model.kind.name, model.name.lower()): model for model in _SHIPPED
}


def models(kind: Kind[object, object, object] | None = None) -> tuple[Model, ...]:
    """Give all rows, or those of a kind; those that ship come first, in their order."""
    return tuple(row for row in _ROWS.values() if kind is None or row.kind == kind)


def names(kind: Kind[object, object, object] | None = None) -> tuple[str, ...]:
    """Give the names of all rows, or of those of a kind."""
    return tuple(dict.fromkeys(model.name for model in models(kind)))


def find(name: str, kind: Kind[object, object, object] = DENSE_TEXT) -> Model:
    """
    Give the row of that name and kind, case aside.

    raises  UnknownModelError, with the nearest names, or the kind that has the name
    """
    row = _ROWS.get((kind.name, name.lower()))
    if row is None:
        msg = f"No {kind.name} model named {name!r}.{_hint(name, kind)} catalog.names() lists all."
        raise UnknownModelError(msg)
    return row


def named(name: str) -> tuple[Model, ...]:
    """
    Give the rows of that name, whatever their kind, case aside.

    raises  UnknownModelError, with the nearest names
    """
    found = tuple(row for row in _ROWS.values() if row.name.lower() == name.lower())
    if not found:
        msg = f"No model named {name!r}.{_hint(name, None)} catalog.names() lists all."
        raise UnknownModelError(msg)
    return found


def add(model: Model) -> None:
    """
    Make the user's own model known by name, for this process.

    raises  SettingError if the name is taken by another row of its kind
    """
    key = (model.kind.name, model.name.lower())
    with _LOCK:
        known = _ROWS.get(key)
        if known is not None and known != model:
            msg = f"Model {model.name!r} is already registered; choose another name."
            raise SettingError(msg)
        _ROWS[key] = model


def is_shipped(model: Model) -> bool:
    """Tell a row that ships from the user's own."""
    return model in _SHIPPED


def _hint(name: str, kind: Kind[object, object, object] | None) -> str:
    elsewhere = [row.kind.name for row in _ROWS.values() if row.name.lower() == name.lower()]
    if elsewhere:
        return f" There is a {' and a '.join(elsewhere)} model of that name."
    # Many know a model without its organization.
    by_name = {row.name.lower(): row.name for row in models(kind)}
    spellings = {key.rpartition("/")[2]: key for key in by_name} | {key: key for key in by_name}
    close = difflib.get_close_matches(name.lower(), spellings, n=3, cutoff=0.6)
    near = dict.fromkeys(by_name[spellings[spelling]] for spelling in close)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
