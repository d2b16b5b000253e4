"""A model by name or by row, opened: from its files to a callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from typing_extensions import assert_never

from fastembed_stream import catalog
from fastembed_stream.embedder import Embedder
from fastembed_stream.families.dense_text import DenseTextFamily
from fastembed_stream.families.static_text import StaticTextEmbedder
from fastembed_stream.files import Fetching, locate
from fastembed_stream.model import DenseText, Model, StaticText
from fastembed_stream.session import Runtime, Session, open_session
from fastembed_stream.tokens import Tokens
from fastembed_stream.values import Floats

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TextEmbedder", "open_model"]

TextEmbedder: TypeAlias = Embedder[str, Floats] | StaticTextEmbedder
"""A callable from texts to vectors, float32[dim] each."""


def open_model(
    model: Model | str,
    *,
    folder: Path | None = None,
    fetching: Fetching | None = None,
    runtime: Runtime | None = None,
    max_tokens: int | None = None,
    slot: int | None = None,
) -> TextEmbedder:
    """
    Fetch what is missing, open the graph, and give a callable from texts to vectors.

    model       a row, or the name of one
    folder      take the files from here instead of the row's source
    max_tokens  another limit than the one in the model's tokenizer_config.json
    slot        number of the worker: it takes one of `runtime.device_ids`, round robin; None
                spreads the work over all of them
    raises      UnknownModelError, SettingError, ModelFilesError, DeviceError

    >>> embed = open_model("fastembed-stream/all-MiniLM-L6-v2-int8")
    >>> [vector] = embed(["A stream of text"])
    >>> vector.shape
    (384,)
    """
    row = catalog.find(model) if isinstance(model, str) else model
    files = locate(row, folder=folder, fetching=fetching or Fetching())
    match row.recipe:
        case DenseText() as recipe:
            tokens = Tokens.open(files, row, max_tokens=max_tokens)
            how = runtime or Runtime()
            sessions = _sessions(files / row.model_file, how, slot)
            family = DenseTextFamily.of(recipe, tokens, sessions[0])
            return Embedder(family, sessions, budget=how.token_budget)
        case StaticText():
            return StaticTextEmbedder.open(files, row, max_tokens=max_tokens)
        case never:
            assert_never(never)


def _sessions(graph: Path, runtime: Runtime, slot: int | None) -> list[Session]:
    devices: tuple[int | None, ...] = runtime.device_ids or (None,)
    if slot is not None:
        devices = (devices[slot % len(devices)],)
    return [open_session(graph, runtime, device_id=device) for device in devices]
