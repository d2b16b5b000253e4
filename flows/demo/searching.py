"""`fastembed-stream search`: a question to what a demonstration kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

from rich.table import Table

from fastembed_stream.errors import SettingError
from flows.demo import hybrid, images, rerank, text
from flows.demo.asking import ask, settings_of
from flows.demo.kept import folder_of, store_in
from flows.demo.tables import listed
from flows.settings.queries import Mode, search_of
from operators import Server

__all__ = ["MODES", "search"]

_IMAGE = "image"
MODES: tuple[str, ...] = (*get_args(Mode), _IMAGE)
"""Of search: those of `rerank_queries`, and pictures like a picture."""

_COLLECTIONS = (hybrid.COLLECTION, text.COLLECTION, rerank.COLLECTION, images.COLLECTION)
_FIRST_CHOICES = ("hybrid", "dense", _IMAGE)


def search(
    question: str,
    *,
    mode: str | None = None,
    folder: Path | None = None,
    limit: int = 5,
    rerank_model: str | None = None,
    rerank_folder: Path | None = None,
) -> Table:
    """
    Ask what a demonstration kept.

    question       a text; of mode 'image', the path of a picture
    mode           one of `MODES`; None takes the first there is of hybrid, dense and image
    folder         None takes the one that was kept last
    rerank_model   cross-encoder that puts the hits in order; None leaves them as found
    rerank_folder  where its files are; None fetches them
    raises         SettingError where nothing was kept that knows the mode
    """
    kept = folder_of(folder)
    server = Server(path=store_in(kept))
    try:
        served = _served(server)
        chosen = mode or next((name for name in _FIRST_CHOICES if name in served), "dense")
        if chosen not in served:
            there = ", ".join(served) or "nothing"
            flow = "images" if chosen == _IMAGE else "hybrid"
            msg = (
                f"What is kept in {kept} has no mode {chosen!r}; it has {there}. "
                f"Make it: fastembed-stream demo --flow {flow} --keep {kept}"
            )
            raise SettingError(msg)
        if chosen == _IMAGE:
            if rerank_model is not None:
                msg = "A cross-encoder reads texts; pictures cannot be put in order by it."
                raise SettingError(msg)
            return listed(question, images.alike(kept, [Path(question)], limit)[0])
        asking = settings_of(
            kept,
            served[chosen],
            cast("Mode", chosen),
            limit=limit,
            rerank_model=rerank_model,
            rerank_folder=rerank_folder,
        )
        return listed(question, ask(asking, [question])[0])
    finally:
        server.close()


def _served(server: Server) -> Mapping[str, str]:
    """Tell which modes there are, and the collection that serves each."""
    client = server.client()
    there = {collection.name for collection in client.get_collections().collections}
    served: dict[str, str] = {}
    for name in _COLLECTIONS:
        if name not in there:
            continue
        params = client.get_collection(name).config.params
        dense = params.vectors if isinstance(params.vectors, dict) else {}
        vectors = {*dense, *(params.sparse_vectors or {})}
        for mode in MODES:
            if _needed(mode) <= vectors:
                served.setdefault(mode, name)
    return served


def _needed(mode: str) -> set[str]:
    if mode == _IMAGE:
        return {"image"}
    return set(search_of(cast("Mode", mode), fusion="rrf", candidates=1).vectors)
