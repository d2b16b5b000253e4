"""`from fastembed import SparseTextEmbedding` may become one from fastembed_stream."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import (
    SPARSE_TEXT,
    Bm25,
    Bm42,
    ModelSource,
    Runtime,
    SparseTextEmbedding,
    Splade,
    catalog,
)
from fastembed_stream.errors import SettingError, UnknownModelError
from fastembed_stream.families.dense_text import DenseText
from tests.fastembed_stream.tiny_sparse import (
    bm25,
    same,
    write_bm42,
    write_inference_free,
    write_minicoil,
    write_splade,
)

BM25 = "Qdrant/bm25"
BM42 = "Qdrant/bm42-all-minilm-l6-v2-attentions"
ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
TEXTS = ["a stream of text", "", "kafka"]


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


def _parameters(callable_: Callable[..., Any]) -> list[tuple[str, Any]]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, getattr(parameter.default, "value", parameter.default))
        for name, parameter in inspect.signature(callable_).parameters.items()
        if parameter.kind not in kinds
    ]


@pytest.mark.parametrize("method", ["embed", "query_embed", "passage_embed", "token_count"])
def test_parameters_begin_as_fastembeds(method: str) -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = _parameters(getattr(fastembed.SparseTextEmbedding, method))
    ours = _parameters(getattr(SparseTextEmbedding, method))
    assert ours[: len(theirs)] == theirs


def test_the_constructors_parameters_have_fastembeds_names_and_order() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = [name for name, _ in _parameters(fastembed.SparseTextEmbedding.__init__)]
    assert [name for name, _ in _parameters(SparseTextEmbedding.__init__)] == theirs


@pytest.mark.parametrize("write", [write_splade, write_inference_free, write_bm42, write_minicoil])
def test_one_text_many_texts_queries_and_passages(
    tmp_path: Path, write: Callable[[Path], Any]
) -> None:
    model = write(tmp_path)
    catalog.add(model)
    embedding = SparseTextEmbedding(model.name, runtime=ON_CPU)
    vectors = list(embedding.embed(TEXTS))
    same(embedding.embed(TEXTS, batch_size=1, parallel=2), vectors, unless_zero=True)
    same(embedding.embed(TEXTS[0]), vectors[:1], unless_zero=True)
    same(embedding.passage_embed(iter(TEXTS)), vectors, unless_zero=True)
    assert len(list(embedding.query_embed(TEXTS))) == 3
    assert len(list(embedding.query_embed("kafka"))) == 1
    assert embedding.token_count(TEXTS) == embedding.token_count(TEXTS, batch_size=1) == 11
    assert embedding.embedding_size == 0


def test_texts_are_read_as_they_are_wanted() -> None:
    read: list[str] = []

    def source() -> Iterator[str]:
        for number in range(100):
            read.append(str(number))
            yield read[-1]

    vectors = SparseTextEmbedding(BM25).embed(source(), batch_size=2)
    assert not read
    next(vectors)
    assert len(read) == 2


def test_a_batch_size_below_one_is_refused_at_once() -> None:
    model = SparseTextEmbedding(BM25)
    for method in (model.embed, model.query_embed, model.passage_embed):
        with pytest.raises(SettingError, match="batch_size must be at least 1; got 0"):
            method(["a"], batch_size=0)


def test_options_of_the_recipe_are_arguments() -> None:
    plain = SparseTextEmbedding(BM25)
    options: dict[str, Any] = {"k": 2.0, "language": "german", "stopwords": {"Wort"}}
    other = SparseTextEmbedding(BM25, **options)
    assert other._model.recipe == Bm25(k=2.0, language="german", stopwords={"wort"})
    [one], [two] = plain.embed("the Wort"), other.embed("the Wort")
    assert set(one.indices) != set(two.indices)
    with pytest.raises(SettingError, match=r"has no option 'alpha'; it has k, b, avg_len"):
        SparseTextEmbedding(BM25, alpha=1.0)


def test_alpha_reaches_bm42(tmp_path: Path) -> None:
    write_bm42(tmp_path)
    one, two = (
        SparseTextEmbedding(
            BM42, specific_model_path=str(tmp_path), runtime=ON_CPU, alpha=alpha
        ).embed("kafka")
        for alpha in (1.0, 2.0)
    )
    np.testing.assert_allclose(next(two).values, next(one).values ** 2, rtol=1e-5)


def test_the_misspelt_name_still_opens_and_says_how_it_is_spelt(tmp_path: Path) -> None:
    write_splade(tmp_path)
    path = str(tmp_path)
    with pytest.warns(DeprecationWarning, match="is spelt prithivida/Splade_PP_en_v1") as noted:
        misspelt = SparseTextEmbedding(
            "Prithvida/SPLADE_PP_en_v1", specific_model_path=path, runtime=ON_CPU
        )
    assert noted[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = SparseTextEmbedding(
            "prithivida/Splade_PP_en_v1", specific_model_path=path, runtime=ON_CPU
        )
    same(misspelt.embed(TEXTS), right.embed(TEXTS))


def test_models_are_described_as_fastembed_describes_them() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    ours = {each["model"]: each for each in SparseTextEmbedding.list_supported_models()}
    theirs = {each["model"]: each for each in fastembed.SparseTextEmbedding.list_supported_models()}
    assert ours.keys() == theirs.keys()
    for name, known in theirs.items():
        assert ours[name]["description"]
        for key in ("vocab_size", "license", "size_in_GB", "requires_idf"):
            assert ours[name][key] == known[key], (name, key)


def test_models_that_need_idf_on_the_server_say_so() -> None:
    needing = {
        each["model"]
        for each in SparseTextEmbedding.list_supported_models()
        if each["requires_idf"]
    }
    assert needing == {BM25, BM42, "Qdrant/minicoil-v1"}


def test_an_unknown_name_is_an_error_with_the_name_that_was_meant() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'Qdrant/bm25'"):
        SparseTextEmbedding("Qdrant/bm52")
    with pytest.raises(UnknownModelError, match="There is a dense-text model of that name"):
        SparseTextEmbedding("BAAI/bge-small-en-v1.5")


def test_a_model_of_the_users_own_is_known_by_its_name(tmp_path: Path) -> None:
    write_splade(tmp_path)
    source = ModelSource(hf="tests/own")
    SparseTextEmbedding.add_custom_model("tests/own", Splade(), source, "model.onnx")
    assert catalog.find("tests/own", SPARSE_TEXT).recipe == Splade()
    own = SparseTextEmbedding("tests/own", specific_model_path=str(tmp_path), runtime=ON_CPU)
    assert len(list(own.embed(TEXTS))) == 3
    with pytest.raises(SettingError, match="already registered"):
        SparseTextEmbedding.add_custom_model("tests/own", Bm42(), source)
    with pytest.raises(SettingError, match="DenseText makes dense-text, not sparse-text"):
        SparseTextEmbedding.add_custom_model(
            "tests/dense", DenseText(pooling="mean", normalize=True), source
        )


def test_a_row_with_options_of_its_own_opens_by_name() -> None:
    catalog.add(bm25(k=2.0))
    [vector] = SparseTextEmbedding("tests/bm25").embed("stream")
    assert vector.values[0] == pytest.approx(3 / (1 + 2 * (0.25 + 0.75 / 256)))
