"""A model of one's own, of any family, is one row: described in a few lines, opened by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import (
    Colbert,
    CrossEncoder,
    DenseText,
    ImageEmbedding,
    LateInteractionMultimodalEmbedding,
    LateInteractionTextEmbedding,
    LocalFolder,
    Model,
    ModelSource,
    Runtime,
    SparseEmbedding,
    SparseTextEmbedding,
    StaticText,
    TextCrossEncoder,
    TextEmbedding,
    TokenEmbeddings,
    catalog,
    open_model,
)
from fastembed_stream.errors import SettingError
from fastembed_stream.families.colpali import ColPali
from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.families.splade import Splade
from tests.fastembed_stream.late_models import write_cross_encoder, write_late
from tests.fastembed_stream.tiny_images import (
    PAGE_DIM,
    colmodernvbert_row,
    picture,
    write_colmodernvbert,
    write_colpali,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import DIM, row, write, write_static
from tests.fastembed_stream.tiny_sparse import (
    bm25,
    write_bm42,
    write_inference_free,
    write_minicoil,
    write_splade,
)

NAME = "own/model"
ON_CPU = Runtime(device="cpu", threads=1, token_budget=256)
TEXTS = ["the stream of text", "kafka"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """
    A model of one's own.

    model   describes it, with its files in a folder
    opened  the drop-in class
    ask     uses it
    """

    model: Callable[[Path], Model]
    opened: type[Any]
    ask: Callable[[Any], list[Any]]


def _texts(model: Any) -> list[Any]:
    return list(model.embed(TEXTS))


def _images(model: Any) -> list[Any]:
    return list(model.embed([picture(30, 20), picture(20, 30)]))


def _pages(model: Any) -> list[Any]:
    return [*model.embed_image([picture(30, 20)]), *model.embed_text(["what is this?"])]


def _pairs(model: Any) -> list[Any]:
    return list(model.rerank("stream", TEXTS))


OWN = {
    "dense": Own(
        model=lambda f: row(write(f), DenseText(pooling="mean", normalize=True)),
        opened=TextEmbedding,
        ask=_texts,
    ),
    "static": Own(
        model=lambda f: row(write_static(f), StaticText(), model_file="model.safetensors"),
        opened=TextEmbedding,
        ask=_texts,
    ),
    "splade": Own(model=write_splade, opened=SparseTextEmbedding, ask=_texts),
    "inference-free splade": Own(
        model=write_inference_free, opened=SparseTextEmbedding, ask=_texts
    ),
    "bm25": Own(model=lambda _: bm25(k=2.0), opened=SparseTextEmbedding, ask=_texts),
    "bm42": Own(model=write_bm42, opened=SparseTextEmbedding, ask=_texts),
    "minicoil": Own(model=write_minicoil, opened=SparseTextEmbedding, ask=_texts),
    "colbert": Own(
        model=lambda f: row(write_late(f), Colbert(query_marker=1, document_marker=2)),
        opened=LateInteractionTextEmbedding,
        ask=_texts,
    ),
    "token embeddings": Own(
        model=lambda f: row(write(f), TokenEmbeddings()),
        opened=LateInteractionTextEmbedding,
        ask=_texts,
    ),
    "image": Own(
        model=lambda f: row(write_image_model(f), DenseImage()), opened=ImageEmbedding, ask=_images
    ),
    "colpali": Own(
        model=lambda f: row(write_colpali(f), ColPali(), dim=PAGE_DIM),
        opened=LateInteractionMultimodalEmbedding,
        ask=_pages,
    ),
    "colmodernvbert": Own(
        model=lambda f: colmodernvbert_row(write_colmodernvbert(f)),
        opened=LateInteractionMultimodalEmbedding,
        ask=_pages,
    ),
    "cross-encoder": Own(
        model=lambda f: row(write_cross_encoder(f), CrossEncoder(), dim=0),
        opened=TextCrossEncoder,
        ask=_pairs,
    ),
}


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


def numbers(answer: Any) -> Any:
    return answer.values if isinstance(answer, SparseEmbedding) else answer


@pytest.mark.parametrize("family", OWN)
def test_a_row_of_any_family_opens_by_its_name_in_its_class(family: str, tmp_path: Path) -> None:
    own = OWN[family]
    model = own.model(tmp_path)
    catalog.add(model)
    answers = own.ask(own.opened(model.name, runtime=ON_CPU))
    assert len(answers) == 2
    assert all(np.isfinite(numbers(answer)).all() for answer in answers)
    assert model.name in {known["model"] for known in own.opened.list_supported_models()}
    by_row = open_model(model, own.model(tmp_path).recipe.kind, runtime=ON_CPU)
    assert by_row.documents is not None


@pytest.mark.parametrize("family", OWN)
def test_a_class_refuses_a_model_of_another_kind_and_says_which_it_is(
    family: str, tmp_path: Path
) -> None:
    own = OWN[family]
    model = own.model(tmp_path)
    catalog.add(model)
    other = TextCrossEncoder if own.opened is not TextCrossEncoder else TextEmbedding
    with pytest.raises(SettingError, match=f"There is a {model.kind.name} model of that name"):
        other(model.name)


@pytest.mark.parametrize(
    ("opened", "options", "write_files", "ask"),
    [
        (SparseTextEmbedding, {"recipe": Splade()}, write_splade, _texts),
        (
            LateInteractionTextEmbedding,
            {"recipe": Colbert(query_marker=1, document_marker=2), "dim": DIM},
            write_late,
            _texts,
        ),
        (ImageEmbedding, {"dim": DIM}, write_image_model, _images),
        (
            LateInteractionMultimodalEmbedding,
            {"recipe": ColPali(), "dim": PAGE_DIM},
            write_colpali,
            _pages,
        ),
        (TextCrossEncoder, {}, write_cross_encoder, _pairs),
    ],
)
def test_add_custom_model_makes_it_known_by_name(
    opened: type[Any],
    options: dict[str, Any],
    write_files: Callable[[Path], object],
    ask: Callable[[Any], list[Any]],
    tmp_path: Path,
) -> None:
    write_files(tmp_path)
    source = ModelSource(hf="own/repository")
    opened.add_custom_model(NAME, sources=source, model_file="model.onnx", **options)
    model = opened(NAME, specific_model_path=str(tmp_path), runtime=ON_CPU)
    assert len(ask(model)) == 2
    with pytest.raises(SettingError, match="already registered"):
        opened.add_custom_model(NAME, sources=source, model_file="other.onnx", **options)


def test_a_row_is_a_value_that_survives_a_trip_to_another_process(tmp_path: Path) -> None:
    import pickle

    for family, own in OWN.items():
        model = own.model(tmp_path / family)
        assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301  our own bytes
        assert isinstance(model.source, LocalFolder) or family == "bm25"
