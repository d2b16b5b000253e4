"""From a model's name or row to its files, and from them to an open model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fastembed_stream import catalog
from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.files import Fetching, locate
from fastembed_stream.files.pointers import refuse_pointers
from fastembed_stream.kinds import DENSE_TEXT, Kind
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.model import Model
from fastembed_stream.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastembed_stream.values import Floats

__all__ = ["open_model"]

Document = TypeVar("Document")
Query = TypeVar("Query")
Answer = TypeVar("Answer")


@overload
def open_model(
    model: Model | str,
    *,
    folder: Path | None = None,
    fetching: Fetching | None = None,
    runtime: Runtime | None = None,
    max_tokens: int | None = None,
    slot: int | None = None,
) -> OpenModel[str, str, Floats]: ...


@overload
def open_model(
    model: Model | str,
    kind: Kind[Document, Query, Answer],
    *,
    folder: Path | None = None,
    fetching: Fetching | None = None,
    runtime: Runtime | None = None,
    max_tokens: int | None = None,
    slot: int | None = None,
) -> OpenModel[Document, Query, Answer]: ...


def open_model(
    model: Model | str,
    kind: Kind[object, object, object] = DENSE_TEXT,
    *,
    folder: Path | None = None,
    fetching: Fetching | None = None,
    runtime: Runtime | None = None,
    max_tokens: int | None = None,
    slot: int | None = None,
) -> OpenModel[Any, Any, Any]:
    """
    Fetch what is missing, open the graph, and give a callable from documents to answers.

    model       a row, or the name of one
    kind        what goes in and comes out: DENSE_TEXT, SPARSE_TEXT, LATE_TEXT, IMAGE,
                LATE_MULTIMODAL or CROSS_ENCODER
    folder      take the files from here instead of the row's source
    max_tokens  another limit than the one in the model's tokenizer_config.json
    slot        number of the worker: it takes one of `runtime.device_ids`, round robin; None
                spreads the work over all of them
    raises      UnknownModelError, SettingError, ModelFilesError, DeviceError

    External data and static tables are mapped, not copied: to replace such a file while a model is
    open, rename the new one into its place. Written over in place it changes the open model.

    >>> embed = open_model("fastembed-stream/all-MiniLM-L6-v2-int8")
    >>> [vector] = embed(["A stream of text"])
    >>> vector.shape
    (384,)
    """
    row = catalog.find(model, kind) if isinstance(model, str) else model
    if row.kind != kind:
        msg = f"{row.name} is a {row.kind.name} model; it cannot be opened as {kind.name}."
        raise SettingError(msg)
    located = LocatedModel(
        model=row,
        folder=locate(row, folder=folder, fetching=fetching or Fetching()),
        runtime=runtime or Runtime(),
        max_tokens=max_tokens,
        slot=slot,
        has_shipped_name=_has_shipped_name(row),
    )
    refuse_pointers(located.folder / name for name in row.files)
    try:
        opened = row.recipe.open(located)
    except ModelFilesError:
        # Files that the row does not name may be to blame: a tokenizer's, or external data.
        refuse_pointers(sorted(_beside(located)))
        raise
    again = partial(
        open_model,
        row,
        kind,
        folder=folder,
        fetching=fetching and replace(fetching, watch=None),  # who watched is not there again
        runtime=runtime,
        max_tokens=max_tokens,
        slot=slot,
    )
    return replace(opened, model=row, reopen=again)


def _has_shipped_name(row: Model) -> bool:
    return any(
        known.name.lower() == row.name.lower()
        and known.dim == row.dim
        and catalog.is_shipped(known)
        for known in catalog.models(row.kind)
    )


def _beside(located: LocatedModel) -> Iterator[Path]:
    for folder in {located.folder, (located.folder / located.model.model_file).parent}:
        yield from (path for path in folder.iterdir() if path.is_file())
