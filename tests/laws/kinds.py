"""One model of every kind that makes a dense vector of a text; each law runs over all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastembed_stream import DenseText, OpenModel, Runtime, StaticText, catalog, open_model
from fastembed_stream.model import Model
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import PACKAGED, packaged_model
from tests.fastembed_stream.tiny_models import Toy, row, write, write_static

_TASKS = (("query", 0), ("passage", 3))
_LEFT = {"padding_side": "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    A model to try the laws on.

    make       writes the folder and describes it
    tolerance  by how much two answers for one text may differ, absolute
    """

    make: Callable[[Path], Model]
    tolerance: float = 1e-6

    def open(self, folder: Path, **runtime: Any) -> OpenModel[str, str, Floats]:
        """Open the model, with two threads unless told."""
        settings: dict[str, Any] = {"device": "cpu", "threads": 2, "token_budget": 64}
        model = self.make(folder)
        return open_model(model, runtime=Runtime(**(settings | runtime)))


def _toy(
    recipe: DenseText, toy: Toy | None = None, *, tolerance: float = 1e-6, **tokenizer: Any
) -> Kind:
    def make(folder: Path) -> Model:
        path = folder if (folder / "model.onnx").is_file() else write(folder, toy, **tokenizer)
        return row(path, recipe)

    return Kind(make=make, tolerance=tolerance)


def _static(folder: Path) -> Model:
    return row(write_static(folder), StaticText(), model_file="model.safetensors")


def _packaged(folder: Path) -> Model:
    del folder
    packaged_model()
    return catalog.find(PACKAGED)


KINDS: dict[str, Kind] = {
    "cls": _toy(DenseText(pooling="cls", normalize=True)),
    "mean": _toy(DenseText(pooling="mean", normalize=True)),
    "mean, not normalized": _toy(DenseText(pooling="mean", normalize=False)),
    "last token": _toy(DenseText(pooling="last_token", normalize=True)),
    "mean, padded left": _toy(DenseText(pooling="mean", normalize=True), config=_LEFT),
    "last token, padded left": _toy(DenseText(pooling="last_token", normalize=True), config=_LEFT),
    "no special tokens": _toy(DenseText(pooling="mean", normalize=True), specials=False),
    "second output": _toy(
        DenseText(pooling="none", normalize=False, output=1), Toy(pooled=(("pooled", "first"),))
    ),
    "named output": _toy(
        DenseText(pooling="none", normalize=True, output="pooler_output"),
        Toy(pooled=(("other", "final"), ("pooler_output", "first"))),
    ),
    "all padded to the limit": _toy(
        DenseText(pooling="none", normalize=True, output="pooler_output", pad_to_max_tokens=True),
        Toy(mask=False, types=False, pooled=(("pooler_output", "final"),)),
    ),
    "tasks": _toy(
        DenseText(
            pooling="mean",
            normalize=True,
            task_input="task_id",
            tasks=_TASKS,
            query_task="query",
            passage_task="passage",
        ),
        Toy(task=True),
    ),
    # The graph rounds to 11 bits, where the last bit of float32 may tip the scales.
    "half precision": _toy(
        DenseText(pooling="mean", normalize=False), Toy(half=True), tolerance=1e-3
    ),
    "static": Kind(make=_static),
    "MiniLM": Kind(make=_packaged, tolerance=1e-5),
}
