"""A model by name or by row, opened: from its files to callables."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fastembed_stream import catalog
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.bm25 import open_bm25
from fastembed_stream.families.bm42 import open_bm42
from fastembed_stream.families.colbert import open_colbert
from fastembed_stream.families.colmodernvbert import open_colmodernvbert
from fastembed_stream.families.colpali import open_colpali
from fastembed_stream.families.cross_encoder import open_cross_encoder
from fastembed_stream.families.dense_image import open_dense_image
from fastembed_stream.families.dense_text import open_dense_text
from fastembed_stream.families.minicoil import open_minicoil
from fastembed_stream.families.splade import open_inference_free_splade, open_splade
from fastembed_stream.families.static_text import open_static_text
from fastembed_stream.families.token_embeddings import open_token_embeddings
from fastembed_stream.files import Fetching, locate
from fastembed_stream.files.pointers import refuse_pointers
from fastembed_stream.model import Model
from fastembed_stream.opened import Opening, OpenModel
from fastembed_stream.recipes import (
    DENSE_TEXT,
    Bm25,
    Bm42,
    Colbert,
    ColModernVbert,
    ColPali,
    CrossEncoder,
    DenseImage,
    DenseText,
    InferenceFreeSplade,
    Kind,
    MiniCoil,
    Recipe,
    Splade,
    StaticText,
    TokenEmbeddings,
)
from fastembed_stream.session import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fastembed_stream.values import Floats

__all__ = ["open_model"]

Document = TypeVar("Document")
Query = TypeVar("Query")
Answer = TypeVar("Answer")


_OPEN: Mapping[type[Recipe], Callable[[Opening, Any], OpenModel[Any, Any, Any]]] = {
    DenseText: open_dense_text,
    StaticText: open_static_text,
    Splade: open_splade,
    InferenceFreeSplade: open_inference_free_splade,
    Bm25: open_bm25,
    Bm42: open_bm42,
    MiniCoil: open_minicoil,
    Colbert: open_colbert,
    TokenEmbeddings: open_token_embeddings,
    DenseImage: open_dense_image,
    ColPali: open_colpali,
    ColModernVbert: open_colmodernvbert,
    CrossEncoder: open_cross_encoder,
}
"""How each family opens itself; as wide in its types as the families together."""


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
    opening = Opening(
        model=row,
        files=locate(row, folder=folder, fetching=fetching or Fetching()),
        runtime=runtime or Runtime(),
        max_tokens=max_tokens,
        slot=slot,
    )
    refuse_pointers(opening.files / name for name in row.files)
    try:
        opened = _OPEN[type(row.recipe)](opening, row.recipe)
    except ModelFilesError:
        # Files that the row does not name may be to blame: a tokenizer's, or external data.
        refuse_pointers(sorted(_beside(opening)))
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


def _beside(opening: Opening) -> Iterator[Path]:
    for folder in {opening.files, (opening.files / opening.model.model_file).parent}:
        yield from (path for path in folder.iterdir() if path.is_file())
