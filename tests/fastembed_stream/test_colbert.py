"""ColBERT's texts stand behind markers; documents lose punctuation, queries gain masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from fastembed_stream import LATE_TEXT, OpenModel, open_model
from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.colbert import Colbert, ColbertDocuments, ColbertQueries
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.runtime import Runtime
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import MIXED_LENGTHS
from tests.fastembed_stream.late_models import write_late
from tests.fastembed_stream.tiny_models import DIM, VOCABULARY, row, write

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
PAD, CLS, SEP, MASK, STREAM, OF, COMMA = (
    VOCABULARY[word] for word in ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "stream", "of", ",")
)
QUERY, DOCUMENT = 700, 800
Family = TypeVar("Family", ColbertDocuments, ColbertQueries)


def opened(
    folder: Path, *, max_tokens: int | None = None, **recipe: Any
) -> OpenModel[str, str, Floats]:
    settings = {"query_marker": QUERY, "document_marker": DOCUMENT, "query_length": 6} | recipe
    if not (folder / "model.onnx").is_file():
        write_late(folder)
    model = row(folder, Colbert(**settings))
    return open_model(model, LATE_TEXT, runtime=ON_CPU, max_tokens=max_tokens)


def family(embeds: Embedder[str, Floats], kind: type[Family]) -> Family:
    assert isinstance(embeds, OnnxEmbedder)
    assert isinstance(embeds.family, kind)
    return embeds.family


def test_a_marker_follows_the_first_token(tmp_path: Path) -> None:
    colbert = opened(tmp_path)
    documents = family(colbert.documents, ColbertDocuments).read(["stream of", ""])
    queries = family(colbert.queries, ColbertQueries).read(["stream of"])
    assert [ids.tolist() for ids in documents.ids] == [
        [CLS, DOCUMENT, STREAM, OF, SEP],
        [CLS, DOCUMENT, SEP],
    ]
    assert documents.lengths.tolist() == [5, 3]
    assert [ids.tolist() for ids in queries.ids] == [[CLS, QUERY, STREAM, OF, SEP]]


@pytest.mark.parametrize(("counted", "longest"), [(True, 48), (False, 49)])
def test_the_marker_takes_a_token_of_the_limit_where_it_is_counted(
    tmp_path: Path, counted: Any, longest: int
) -> None:
    colbert = opened(tmp_path, marker_is_counted=counted)
    long = "stream " * 100
    assert colbert.documents.count_tokens([long]) == colbert.max_tokens == longest
    assert colbert.queries.count_tokens([long]) == longest
    assert opened(tmp_path, max_tokens=20).documents.count_tokens([long]) == 20
    with pytest.raises(SettingError, match="A limit of 2 tokens"):
        opened(tmp_path, max_tokens=3)


def test_a_group_of_documents_keeps_words_and_drops_punctuation_and_padding(
    tmp_path: Path,
) -> None:
    documents = family(opened(tmp_path).documents, ColbertDocuments)
    reading = documents.read(["stream, [PAD] of", "stream"])
    feeds = documents.pack(reading, np.arange(2))
    assert feeds["input_ids"].tolist() == [
        [CLS, DOCUMENT, STREAM, COMMA, PAD, OF, SEP],
        [CLS, DOCUMENT, STREAM, SEP, PAD, PAD, PAD],
    ]
    # Others attend to what gets no vector itself.
    assert feeds["attention_mask"].sum(axis=1).tolist() == [7, 4]
    assert feeds["kept"].astype(int).tolist() == [[1, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0]]
    assert documents.skipped.dtype == np.int64


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        ({}, 5),
        ({"skip_punctuation": False}, 6),
        ({"skip_pad_tokens": False}, 6),
        ({"skip_punctuation": False, "skip_pad_tokens": False}, 7),
    ],
)
def test_what_a_document_skips_is_the_recipes_choice(
    tmp_path: Path, recipe: dict[str, bool], kept: int
) -> None:
    [vectors] = opened(tmp_path, **recipe)(["stream, [PAD] of"])
    assert vectors.shape == (kept, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_document_of_punctuation_keeps_its_special_tokens(tmp_path: Path) -> None:
    assert [len(vectors) for vectors in opened(tmp_path)(["!?.,;", ""])] == [3, 3]


def test_a_document_without_any_token_still_has_its_marker(tmp_path: Path) -> None:
    write_late(tmp_path, specials=False)
    colbert = opened(tmp_path)
    assert [len(vectors) for vectors in colbert(["", "stream"])] == [1, 2]
    assert [len(vectors) for vectors in colbert.queries([""])] == [7]


@pytest.mark.parametrize("attend", [True, False])
def test_a_short_query_is_filled_with_masks_and_a_long_one_brings_it_no_padding(
    tmp_path: Path, attend: Any
) -> None:
    queries = family(opened(tmp_path, attend_to_expansion=attend).queries, ColbertQueries)
    reading = queries.read(["stream", "of of of of of of of"])
    assert queries.widths(reading).tolist() == [7, 10]
    feeds = queries.pack(reading, np.arange(2))
    assert feeds["input_ids"].tolist() == [
        [CLS, QUERY, STREAM, SEP, MASK, MASK, MASK, PAD, PAD, PAD],
        [CLS, QUERY, OF, OF, OF, OF, OF, OF, OF, SEP],
    ]
    assert feeds["attention_mask"].sum(axis=1).tolist() == [7 if attend else 4, 10]
    assert feeds["kept"].sum(axis=1).tolist() == [7, 10]
    assert not feeds["token_type_ids"].any()
    assert {array.dtype for name, array in feeds.items() if name != "kept"} == {np.dtype(np.int64)}


def test_the_fill_is_the_end_of_a_query_even_where_padding_is_at_the_left(tmp_path: Path) -> None:
    write_late(tmp_path, config={"padding_side": "left"})
    queries = family(opened(tmp_path).queries, ColbertQueries)
    feeds = queries.pack(queries.read(["stream"]), np.arange(1))
    assert feeds["input_ids"].tolist() == [[CLS, QUERY, STREAM, SEP, MASK, MASK, MASK]]


def test_a_query_is_left_as_it_is_without_a_length(tmp_path: Path) -> None:
    colbert = opened(tmp_path, query_length=None)
    assert [len(vectors) for vectors in colbert.queries(["stream", "of of"])] == [4, 5]


@pytest.mark.parametrize("normalize", [True, False])
def test_queries_are_normalized_where_the_recipe_says(tmp_path: Path, normalize: Any) -> None:
    [vectors] = opened(tmp_path, normalize_queries=normalize).queries(["stream, of"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) is normalize


def test_a_vocabulary_without_the_mask_is_refused_unless_nothing_is_filled(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"No token '<mask>' in the vocabulary"):
        opened(tmp_path, mask_token="<mask>")  # noqa: S106  not a secret
    opened(tmp_path, mask_token="<mask>", query_length=None)  # noqa: S106  not a secret


def test_an_output_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="not in the graph; it has last_hidden_state"):
        opened(tmp_path, output="contextual")


def test_documents_and_queries_share_sessions_and_count_apart(tmp_path: Path) -> None:
    colbert = opened(tmp_path)
    assert isinstance(colbert.documents, OnnxEmbedder)
    assert isinstance(colbert.queries, OnnxEmbedder)
    assert colbert.documents.sessions == colbert.queries.sessions
    colbert(MIXED_LENGTHS)
    assert (colbert.documents.counts.rows, colbert.queries.counts.rows) == (len(MIXED_LENGTHS), 0)


@pytest.mark.parametrize("n_tokens", [128, 1024])
def test_a_sample_of_either_has_about_as_many_tokens_as_asked(
    tmp_path: Path, n_tokens: int
) -> None:
    colbert = opened(tmp_path)
    for one in (
        family(colbert.documents, ColbertDocuments),
        family(colbert.queries, ColbertQueries),
    ):
        assert one.widths(one.sample(n_tokens)).sum() == pytest.approx(n_tokens, rel=0.3)


def test_a_graph_that_takes_types_gets_them_as_wide_as_the_marker_makes_a_row(
    tmp_path: Path,
) -> None:
    recipe = Colbert(query_marker=5, document_marker=6, query_length=6)
    colbert = open_model(row(write(tmp_path), recipe), LATE_TEXT, runtime=ON_CPU)
    assert [len(vectors) for vectors in colbert(["stream of"])] == [5]
    assert [len(vectors) for vectors in colbert.queries(["stream of"])] == [7]
