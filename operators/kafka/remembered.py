"""Partitions that a recovery store knows, whether the topic still has them or not."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

__all__ = ["remembered_parts"]

_LOG = logging.getLogger(__name__)


def remembered_parts(store: Path, topics: Collection[str]) -> set[str]:
    """
    List 'topic/number' of all partitions of some topics that a recovery store has a place of.

    Bytewax ends a flow whose source does not list one of them. A topic that was made again with
    fewer partitions could then not be read on any terms but with an empty store.
    """
    found: set[str] = set()
    for path in sorted(store.glob("part-*.sqlite3")):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as part:
                found.update(key for (key,) in part.execute("SELECT DISTINCT state_key FROM snaps"))
        except sqlite3.Error as error:  # Bytewax itself will say what is wrong with its store
            _LOG.debug("%s not read: %s", path, error)
    return {key for key in found if _is_part(key, topics)}


def _is_part(key: str, topics: Collection[str]) -> bool:
    topic, _, number = key.rpartition("/")
    return topic in topics and number.isascii() and number.isdecimal()
