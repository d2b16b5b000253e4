"""Where a demonstration left its collection: the last place is remembered."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_state_path

from fastembed_stream.errors import SettingError

__all__ = ["NO_ENVIRONMENT", "folder_of", "remember", "store_in"]

NO_ENVIRONMENT = "demonstrations are told nothing by "
"""Before the names of variables: what a cluster's shell has set must not reach a demonstration."""


def store_in(folder: Path) -> Path:
    """Give the part of a kept folder that is Qdrant's."""
    return folder / "qdrant"


def folder_of(folder: Path | None) -> Path:
    """
    Give the folder to ask.

    folder  None takes the one that was kept last
    raises  SettingError where nothing was kept
    """
    kept = folder or _remembered()
    if not store_in(kept).is_dir():
        msg = f"No collection in {kept}. Make one: fastembed-stream demo --keep {kept}"
        raise SettingError(msg)
    return kept


def remember(folder: Path) -> None:
    """Make a folder the one that was kept last."""
    _pointer().parent.mkdir(parents=True, exist_ok=True)
    _pointer().write_text(str(folder.resolve()), encoding="utf-8")


def _pointer() -> Path:
    return user_state_path("fastembed_stream") / "kept"


def _remembered() -> Path:
    try:
        return Path(_pointer().read_text(encoding="utf-8"))
    except OSError as error:
        msg = "Nothing was kept yet. Make a collection: fastembed-stream demo --keep DIR"
        raise SettingError(msg) from error
