"""What fastembed takes and ignores is taken here, with one warning that says what helps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import Runtime, SparseTextEmbedding, TextCrossEncoder, TextEmbedding, catalog
from fastembed_stream.errors import SettingError
from fastembed_stream.families.bm25 import Bm25 as Bm25Recipe
from fastembed_stream.families.cross_encoder import CrossEncoder
from fastembed_stream.fastembed_api import Bm25
from tests.fastembed_stream.late_models import write_cross_encoder
from tests.fastembed_stream.tiny_models import row, write
from tests.fastembed_stream.tiny_sparse import same

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
NAME = "tests/tiny"
TEXTS = ["a stream of text", "", "kafka"]


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    catalog.add(row(write(tmp_path), name=NAME))
    return NAME


@pytest.fixture
def cross(tmp_path: Path) -> TextCrossEncoder:
    folder = write_cross_encoder(tmp_path)
    catalog.add(row(folder, CrossEncoder(), name="tests/cross", dim=0))
    return TextCrossEncoder("tests/cross", runtime=ON_CPU)


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        ({"max_length": 512}, "instead of max_length use `max_tokens`"),
        ({"embed_batch_size": 10}, "instead of embed_batch_size use `batch_size` of `embed`"),
        ({"parallel": 2}, "instead of parallel use `threads` or `device_ids`"),
        ({"device": "cuda"}, "instead of device use `cuda`"),
        ({"callback_manager": None}, "takes callback_manager as fastembed does, and does nothing"),
        (
            {"max_length": 9, "batch_size": 2, "rate_limiter": None},
            r"TextEmbedding takes batch_size, max_length, rate_limiter .* `embed`; instead of max_",
        ),
    ],
    ids=str,
)
def test_the_constructor_warns_once_and_names_what_to_use(
    tiny: str, told: dict[str, Any], cure: str
) -> None:
    with pytest.warns(UserWarning, match=cure) as noted:
        model = TextEmbedding(tiny, runtime=ON_CPU, **told)
    assert [one.filename for one in noted] == [__file__]
    np.testing.assert_array_equal(
        list(model.embed(TEXTS)), list(TextEmbedding(tiny, runtime=ON_CPU).embed(TEXTS))
    )


def test_what_nobody_takes_is_still_an_error(tiny: str) -> None:
    with pytest.raises(SettingError, match="threadz"):
        TextEmbedding(tiny, threadz=3)


def test_an_option_of_the_recipe_is_heeded_and_not_passed_over() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SparseTextEmbedding("Qdrant/bm25", language="german", lazy_load=True)
    assert model._model.recipe == Bm25Recipe(language="german")


@pytest.mark.parametrize("method", ["embed", "query_embed", "passage_embed", "token_count"])
def test_methods_take_what_fastembeds_take_and_warn(tiny: str, method: str) -> None:
    model = TextEmbedding(tiny, runtime=ON_CPU)
    said = rf"TextEmbedding\.{method} takes show_progress, is_doc as fastembed does"
    with pytest.warns(UserWarning, match=said) as noted:
        got = getattr(model, method)(TEXTS, show_progress=True, is_doc=True)
    assert [one.filename for one in noted] == [__file__]
    expected = getattr(model, method)(TEXTS)
    if method == "token_count":
        assert got == expected
    else:
        np.testing.assert_array_equal(list(got), list(expected))


@pytest.mark.parametrize("method", ["rerank", "rerank_pairs", "token_count"])
def test_a_cross_encoders_methods_take_them_too(cross: TextCrossEncoder, method: str) -> None:
    pairs = [("a", text) for text in TEXTS]
    arguments: tuple[Any, ...] = ("a", TEXTS) if method == "rerank" else (pairs,)
    with pytest.warns(UserWarning, match=rf"TextCrossEncoder\.{method} takes top_k"):
        got = getattr(cross, method)(*arguments, top_k=2)
    expected = getattr(cross, method)(*arguments)
    assert got == expected if method == "token_count" else list(got) == list(expected)


def test_rerank_takes_parallel_in_silence(cross: TextCrossEncoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(cross.rerank("a", TEXTS, parallel=2)) == list(cross.rerank("a", TEXTS, 2, 0))


def test_bm25_is_a_model_by_fastembeds_arguments() -> None:
    model = Bm25("Qdrant/bm25", None, 2.0, 0.5, 100.0, "german", 30, False, None)  # noqa: FBT003
    plain = SparseTextEmbedding(
        "Qdrant/bm25", k=2.0, b=0.5, avg_len=100.0, language="german", token_max_length=30
    )
    same(model.raw_embed(TEXTS), plain.embed(TEXTS))
    same(model.query_embed("der Strom"), plain.query_embed("der Strom"))
    assert model.token_count(TEXTS) == plain.token_count(TEXTS)
    assert Bm25.compute_token_id("stream") == 771713658
    assert Bm25("Qdrant/bm25", disable_stemmer=True).raw_embed(["streams"])[0].as_dict() != (
        Bm25("Qdrant/bm25").raw_embed(["streams"])[0].as_dict()
    )
    assert Bm25("Qdrant/bm25", lazy_load=True, local_files_only=True).embedding_size == 0
    with pytest.warns(UserWarning, match="Bm25 takes max_length") as noted:
        Bm25("Qdrant/bm25", max_length=512)
    assert noted[0].filename == __file__
    with pytest.raises(ValueError, match="klingon"):
        Bm25("Qdrant/bm25", language="klingon")


def test_bm25_has_fastembeds_parameters_and_numbers() -> None:
    import inspect

    pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    from fastembed.sparse.bm25 import Bm25 as Theirs

    def named(cls: Any) -> list[str]:
        return list(inspect.signature(cls).parameters)[:11]

    assert named(Bm25) == named(Theirs)
    assert Bm25.compute_token_id("kafka") == Theirs.compute_token_id("kafka")
