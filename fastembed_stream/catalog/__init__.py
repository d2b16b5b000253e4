"""
Every model known by name: the rows that ship, and the user's own.

>>> find("baai/BGE-small-en-v1.5").dim
384
"""

from __future__ import annotations

import difflib
import threading

from fastembed_stream.catalog import dense_text
from fastembed_stream.errors import SettingError, UnknownModelError
from fastembed_stream.model import Model

__all__ = ["add", "find", "models", "names"]

_LOCK = threading.Lock()
_ROWS: dict[str, Model] = {model.name.lower(): model for model in dense_text.MODELS}


def models() -> tuple[Model, ...]:
    """Give all rows, those that ship first, in their order."""
    return tuple(_ROWS.values())


def names() -> tuple[str, ...]:
    """Give the names of all rows."""
    return tuple(model.name for model in models())


def find(name: str) -> Model:
    """
    Give the row of that name, case aside.

    raises  UnknownModelError, with the nearest names
    """
    row = _ROWS.get(name.lower())
    if row is not None:
        return row
    # Many know a model without its organization.
    spellings = {key.rpartition("/")[2]: key for key in _ROWS} | {key: key for key in _ROWS}
    close = difflib.get_close_matches(name.lower(), spellings, n=3, cutoff=0.6)
    near = dict.fromkeys(_ROWS[spellings[spelling]].name for spelling in close)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    msg = f"No model named {name!r}.{hint} catalog.names() lists all."
    raise UnknownModelError(msg)


def add(model: Model) -> None:
    """
    Make the user's own model known by name, for this process.

    raises  SettingError if the name is taken by another row
    """
    with _LOCK:
        known = _ROWS.get(model.name.lower())
        if known is not None and known != model:
            msg = f"Model {model.name!r} is already registered; choose another name."
            raise SettingError(msg)
        _ROWS[model.name.lower()] = model
