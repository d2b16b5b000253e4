"""`from fastembed import LateInteractionTextEmbedding` may change its first word alone."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import LATE_TEXT, LateInteractionTextEmbedding, ModelSource, Runtime, catalog
from fastembed_stream.errors import SettingError, UnknownModelError
from fastembed_stream.families.colbert import Colbert
from fastembed_stream.families.token_embeddings import TokenEmbeddings
from tests.fastembed_stream.examples import MIXED_LENGTHS
from tests.fastembed_stream.late_models import write_late
from tests.fastembed_stream.tiny_models import DIM, row

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
NAME = "tests/late"
RECIPE = Colbert(query_marker=700, document_marker=800, query_length=6)
CUSTOM: dict[str, Any] = {
    "recipe": RECIPE,
    "sources": ModelSource(hf="tests/custom"),
    "dim": DIM,
    "model_file": "model.onnx",
}


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


@pytest.fixture
def late(tmp_path: Path) -> LateInteractionTextEmbedding:
    prompts: dict[str, Any] = {"query_prompt": "kafka: ", "passage_prompt": "text: "}
    catalog.add(row(write_late(tmp_path), RECIPE, name=NAME, **prompts))
    return LateInteractionTextEmbedding(NAME, runtime=ON_CPU)


def _parameters(callable_: Callable[..., Any]) -> list[tuple[str, Any]]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, getattr(parameter.default, "value", parameter.default))
        for name, parameter in inspect.signature(callable_).parameters.items()
        if parameter.kind not in kinds
    ]


@pytest.mark.parametrize("method", ["embed", "query_embed", "passage_embed", "token_count"])
def test_parameters_have_fastembeds_names_order_and_defaults(method: str) -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = _parameters(getattr(fastembed.LateInteractionTextEmbedding, method))
    assert _parameters(getattr(LateInteractionTextEmbedding, method))[: len(theirs)] == theirs


def test_a_model_is_described_by_fastembeds_keys() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    described = LateInteractionTextEmbedding.list_supported_models()
    ours = {model["model"]: model for model in described}
    for model in fastembed.LateInteractionTextEmbedding.list_supported_models():
        mine = ours[model["model"]]
        assert model.keys() <= mine.keys()
        same = ("model_file", "license", "size_in_GB", "additional_files", "dim")
        assert {key: model[key] for key in same} == {key: mine[key] for key in same}
        assert mine["sources"]["hf"] == model["sources"]["hf"]


def test_the_size_of_a_vector_is_known_without_opening_anything() -> None:
    sizes = LateInteractionTextEmbedding.get_embedding_size
    assert sizes("ANSWERDOTAI/answerai-colbert-small-v1") == 96
    with pytest.raises(UnknownModelError, match="Did you mean"):
        sizes("colbert-ir/colbertv2")


def test_a_model_has_to_be_named() -> None:
    with pytest.raises(UnknownModelError):
        LateInteractionTextEmbedding()


def test_documents_passages_and_queries_are_read_lazily_and_answered_in_order(
    late: LateInteractionTextEmbedding,
) -> None:
    expected = [len(vectors) for vectors in late.embed(list(MIXED_LENGTHS))]
    for ask in (late.embed, late.passage_embed):
        answers = ask(itertools.cycle(MIXED_LENGTHS), batch_size=3)
        assert [len(next(answers)) for _ in expected] == expected
    queries = late.query_embed(itertools.cycle(["a", "of " * 10]), 2)
    assert [len(next(queries)) for _ in range(4)] == [7, 13, 7, 13]


def test_one_text_is_a_list_of_one(late: LateInteractionTextEmbedding) -> None:
    for ask in (late.embed, late.query_embed, late.passage_embed):
        [one], [same] = ask("the stream"), ask(["the stream"])
        np.testing.assert_array_equal(one, same)


def test_parallel_is_accepted_and_changes_nothing(late: LateInteractionTextEmbedding) -> None:
    for one, other in zip(
        late.embed(MIXED_LENGTHS, parallel=2), late.embed(MIXED_LENGTHS), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_prompts_stand_before_texts_on_request_only(late: LateInteractionTextEmbedding) -> None:
    prompted = LateInteractionTextEmbedding(NAME, runtime=ON_CPU, prompts=True)
    [query], [passage] = prompted.query_embed("a point"), prompted.passage_embed("a point")
    [expected], [also] = late.query_embed("kafka: a point"), late.embed("text: a point")
    np.testing.assert_allclose(query, expected, atol=1e-6)
    np.testing.assert_allclose(passage, also, atol=1e-6)
    [bare] = late.query_embed(["a point"])
    assert np.abs(bare - expected[: len(bare)]).max() > 0.01


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(
    late: LateInteractionTextEmbedding, batch_size: int
) -> None:
    for ask in (late.embed, late.query_embed, late.passage_embed, late.token_count):
        with pytest.raises(SettingError, match=f"batch_size must be at least 1; got {batch_size}"):
            ask(["a"], batch_size)


def test_tokens_are_counted_with_or_without_marker_and_fill(
    late: LateInteractionTextEmbedding,
) -> None:
    texts = ["a", "of " * 10, "the, stream"]
    counts = {
        (is_doc, extended): late.token_count(texts, 2, is_doc, extended)
        for is_doc in (True, False)
        for extended in (True, False)
    }
    assert counts == {
        (True, False): 20,
        (True, True): 23,
        (False, False): 20,
        (False, True): 7 + 13 + 7,
    }


def test_an_option_of_the_recipe_is_an_argument(late: LateInteractionTextEmbedding) -> None:
    with_marks = LateInteractionTextEmbedding(NAME, runtime=ON_CPU, skip_punctuation=False)
    [without], [vectors] = late.embed("a, of."), with_marks.embed("a, of.")
    assert (len(without), len(vectors)) == (5, 7)
    with pytest.raises(SettingError, match="has no option 'pooling'"):
        LateInteractionTextEmbedding(NAME, lazy_load=True, pooling="cls")


@pytest.mark.parametrize(("recipe", "n_vectors"), [(RECIPE, 4), (TokenEmbeddings(), 3)])
def test_a_model_of_ones_own_takes_a_few_lines(
    tmp_path: Path, recipe: Colbert | TokenEmbeddings, n_vectors: int
) -> None:
    LateInteractionTextEmbedding.add_custom_model("Tests/Own", **(CUSTOM | {"recipe": recipe}))
    folder = str(write_late(tmp_path))
    model = LateInteractionTextEmbedding("tests/own", specific_model_path=folder, runtime=ON_CPU)
    [vectors] = model.embed("stream")
    assert vectors.shape == (n_vectors, DIM)
    assert model.token_count("stream") == 3
    assert catalog.find("tests/own", LATE_TEXT).recipe == recipe


@pytest.mark.parametrize("name", ["tests/own", "colbert-ir/colbertv2.0"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    LateInteractionTextEmbedding.add_custom_model("tests/own", **CUSTOM)
    with pytest.raises(SettingError, match=f"Model {name} is already registered"):
        LateInteractionTextEmbedding.add_custom_model(name, **CUSTOM)
