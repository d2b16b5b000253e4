"""Code that looks under `.model`, as fastembed has it, finds what it looks for."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastembed_stream import (
    ImageEmbedding,
    LateInteractionTextEmbedding,
    Runtime,
    SparseTextEmbedding,
    TextCrossEncoder,
    TextEmbedding,
    catalog,
)
from fastembed_stream.families.colbert import Colbert
from fastembed_stream.families.cross_encoder import CrossEncoder
from fastembed_stream.fastembed_api.descriptions import (
    BaseModelDescription,
    DenseModelDescription,
    SparseModelDescription,
)
from tests.fastembed_stream.late_models import write_cross_encoder, write_late
from tests.fastembed_stream.tiny_images import IMAGES, image_row, write_image_model
from tests.fastembed_stream.tiny_models import DIM, row, write, write_static
from tests.fastembed_stream.tiny_sparse import write_splade

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
NAME = "tests/inner"


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


def dense(folder: Path, **told: Any) -> TextEmbedding:
    catalog.add(row(write(folder), name=NAME))
    return TextEmbedding(NAME, runtime=ON_CPU, **told)


def sparse(folder: Path, **told: Any) -> SparseTextEmbedding:
    catalog.add(write_splade(folder))
    return SparseTextEmbedding("tests/tiny", runtime=ON_CPU, **told)


def late(folder: Path, **told: Any) -> LateInteractionTextEmbedding:
    catalog.add(row(write_late(folder), Colbert(query_marker=700, document_marker=800), name=NAME))
    return LateInteractionTextEmbedding(NAME, runtime=ON_CPU, **told)


def cross(folder: Path, **told: Any) -> TextCrossEncoder:
    catalog.add(row(write_cross_encoder(folder), CrossEncoder(), name=NAME, dim=0))
    return TextCrossEncoder(NAME, runtime=ON_CPU, **told)


def used(model: Any) -> None:
    list(model.rerank("a", ["b"]) if isinstance(model, TextCrossEncoder) else model.embed("a"))


@pytest.mark.parametrize("opened", [dense, sparse, late, cross])
def test_session_and_tokenizer_are_under_model_once_it_is_used(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    model = opened(tmp_path, lazy_load=True)
    inner = model.model
    assert not hasattr(inner, "model")
    assert getattr(inner, "tokenizer", None) is None
    with pytest.raises(AttributeError, match=r"has no `\.model\.model` before its first use"):
        _ = inner.model
    used(model)
    assert inner.model.get_providers() == ["CPUExecutionProvider"]
    assert inner.model.get_session_options().enable_cpu_mem_arena is True
    assert inner.tokenizer is model.model.tokenizer
    assert inner.tokenizer.encode("a point").tokens == ["[CLS]", "a", "point", "[SEP]"]
    assert inner._model_dir == tmp_path


def test_without_lazy_load_it_is_there_at_once_and_as_it_was_told(tmp_path: Path) -> None:
    model = dense(tmp_path, enable_cpu_mem_arena=False, max_tokens=5)
    assert model.model.model.get_session_options().enable_cpu_mem_arena is False
    assert (model.model.tokenizer.truncation or {})["max_length"] == 5
    assert [len(each.ids) for each in model.model.tokenizer.encode_batch(["a", "a a"])] == [4, 4]
    assert isinstance(description := model.model.model_description, DenseModelDescription)
    assert description.dim == DIM
    assert model.model.model_name == model.model_name == NAME
    assert len(list(model.model.embed(["a", "b"]))) == 2
    assert model.model.token_count("a") == 3


def test_load_onnx_model_opens_what_lazy_load_left(tmp_path: Path) -> None:
    model = dense(tmp_path, lazy_load=True)
    model.model.load_onnx_model()
    assert model.model.model.get_inputs()[0].name == "input_ids"


def test_nothing_under_model_can_be_set(tmp_path: Path) -> None:
    model = dense(tmp_path)
    for holder, name in ((model, "model"), (model.model, "model"), (model.model, "tokenizer")):
        with pytest.raises(AttributeError):
            setattr(holder, name, None)


def test_a_limit_set_on_the_tokenizer_changes_no_vector_and_says_what_does(tmp_path: Path) -> None:
    model = dense(tmp_path)
    text = "the stream of text " * 9
    [before] = model.embed(text)
    model.model.tokenizer.enable_truncation(max_length=7)
    for ask in (model.embed, model.query_embed):
        model.model.tokenizer.enable_truncation(max_length=7 + (ask == model.query_embed))
        with pytest.warns(UserWarning, match=r"Pass max_tokens=[78] to the constructor") as told:
            [after] = ask(text)
        assert [one.filename for one in told] == [__file__]
        assert (before == after).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        model.model.tokenizer.no_truncation()  # to measure a text
        list(model.embed(text))


def test_where_no_graph_runs_there_is_no_session(tmp_path: Path) -> None:
    bm25 = SparseTextEmbedding("Qdrant/bm25")
    static = TextEmbedding(
        "minishlab/potion-base-8M", specific_model_path=str(write_static(tmp_path))
    )
    for model in (bm25, static):
        used(model)
        assert not hasattr(model.model, "model")
    assert not hasattr(bm25.model, "tokenizer")
    with pytest.raises(AttributeError, match=r"has no `\.model\.tokenizer` at all"):
        _ = bm25.model.tokenizer


def test_images_have_a_session_and_no_tokenizer(tmp_path: Path) -> None:
    catalog.add(image_row(write_image_model(tmp_path), name=NAME))
    model = ImageEmbedding(NAME, runtime=ON_CPU)
    list(model.embed(IMAGES[:1]))
    assert model.model.model.get_outputs()
    assert not hasattr(model.model, "tokenizer")


def test_descriptions_have_fastembeds_types_and_fields() -> None:
    dense_description = TextEmbedding._get_model_description("baai/BGE-small-en-v1.5")
    assert isinstance(dense_description, DenseModelDescription)
    assert (dense_description.dim, dense_description.sources.deprecated_tar_struct) == (384, False)
    [bm25] = [
        each for each in SparseTextEmbedding._list_supported_models() if each.model == "Qdrant/bm25"
    ]
    assert isinstance(bm25, SparseModelDescription)
    assert (bm25.requires_idf, bm25.vocab_size, bm25.sources.hf) == (True, 0, "Qdrant/bm25")
    for each in TextCrossEncoder._list_supported_models():
        assert type(each) is BaseModelDescription
    with pytest.raises(ValueError, match="Did you mean"):
        TextEmbedding._get_model_description("BAAI/bge-smal-en-v1.5")


@pytest.mark.parametrize(
    "name",
    [
        "TextEmbedding",
        "SparseTextEmbedding",
        "ImageEmbedding",
        "LateInteractionTextEmbedding",
        "LateInteractionMultimodalEmbedding",
        "TextCrossEncoder",
    ],
)
def test_every_list_of_models_has_all_of_fastembeds_keys(name: str) -> None:
    pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    import fastembed
    from fastembed.rerank.cross_encoder import TextCrossEncoder as TheirCrossEncoder

    import fastembed_stream

    theirs = getattr(fastembed, name, TheirCrossEncoder)
    ours = getattr(fastembed_stream, name)
    known = {model["model"]: model for model in ours.list_supported_models()}
    assert json.loads(json.dumps(known)).keys() == known.keys()
    for model in theirs.list_supported_models():
        mine = known[model["model"]]
        assert mine.keys() - model.keys() == {"recipe", "batch_invariant"}
        assert model.keys() <= mine.keys()
        assert mine["sources"].keys() == model["sources"].keys()
    described = {each.model: each for each in ours._list_supported_models()}
    for each in theirs._list_supported_models():
        assert vars(described[each.model]).keys() == vars(each).keys()
