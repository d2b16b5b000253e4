"""SPLADE weighs the vocabulary by the most over real tokens; inference-free queries run nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import SPARSE_TEXT, OpenModel, Runtime, SparseEmbedding, open_model
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.splade import Splade, SpladeFamily, most_over_tokens
from fastembed_stream.model import Model
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.session import Session
from tests.fastembed_stream.tiny_models import VOCABULARY, row, write
from tests.fastembed_stream.tiny_sparse import same, write_inference_free, write_splade

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)


def opened(model: Model) -> OpenModel[str, str, SparseEmbedding]:
    return open_model(model, SPARSE_TEXT, runtime=ON_CPU)


def family(embed: OpenModel[str, str, SparseEmbedding]) -> SpladeFamily:
    assert isinstance(embed.documents, OnnxEmbedder)
    assert isinstance(embed.documents.family, SpladeFamily)
    return embed.documents.family


LOGITS = np.array(
    [[[1, -1, 0], [3, -2, 0], [9, 9, 9]], [[9, 9, 9], [-1, 2, 1], [0, 1, 2]]], np.float32
)
MASK = np.array([[1, 1, 0], [0, 1, 1]])


def test_the_most_is_taken_over_real_tokens_on_either_side() -> None:
    assert [most.tolist() for most in most_over_tokens(LOGITS, MASK)] == [[3, -1, 0], [0, 2, 2]]


def test_what_was_reduced_already_stays_as_it_is() -> None:
    reduced = LOGITS[:, 0]
    assert np.array_equal(most_over_tokens(reduced, MASK), reduced)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(SettingError, match=r"\(batch, seq, vocabulary\); got \(3,\)"):
        most_over_tokens(LOGITS[0, 0], MASK)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_only_what_is_above_zero_gets_a_weight(tmp_path: Path, dtype: type) -> None:
    splade = family(opened(write_splade(tmp_path)))
    one, two = splade.finish([LOGITS.astype(dtype)], {"attention_mask": MASK})
    assert one.as_dict() == pytest.approx({0: np.log1p(3)})
    assert two.as_dict() == pytest.approx({1: np.log1p(2), 2: np.log1p(2)})
    assert one.values.dtype == np.float32
    assert one.indices.dtype == np.int64


def test_the_second_logarithm_and_the_special_tokens_are_inference_frees(tmp_path: Path) -> None:
    splade = family(opened(write_inference_free(tmp_path)))
    assert splade.left_out.tolist() == [0, 1, 2, 3, 4]
    logits = np.zeros((1, 1, len(VOCABULARY)), dtype=np.float32)
    logits[0, 0, [1, 3, 7]] = 5
    [vector] = splade.finish([logits], {"attention_mask": np.ones((1, 1), dtype=np.int64)})
    assert vector.as_dict() == pytest.approx({7: np.log1p(np.log1p(5))})


def test_what_is_not_a_number_shows_and_stays_in_its_row(tmp_path: Path) -> None:
    splade = family(opened(write_splade(tmp_path)))
    broken = LOGITS.copy()
    broken[0, 1, 2] = np.nan
    one, two = splade.finish([broken], {"attention_mask": MASK})
    assert np.isnan(one.as_dict()[2])
    assert np.isfinite(two.values).all()


def test_a_row_without_tokens_has_an_empty_vector(tmp_path: Path) -> None:
    [empty, other] = opened(write_splade(tmp_path, specials=False))(["", "kafka"])
    assert len(empty.values) == len(empty.indices) == 0
    assert len(other.values) > 0


def test_queries_of_splade_are_embedded_as_documents(tmp_path: Path) -> None:
    embed = opened(write_splade(tmp_path))
    assert embed.queries is embed.documents


def test_an_inference_free_query_is_a_look_up_that_runs_no_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = opened(write_inference_free(tmp_path))
    monkeypatch.delattr(Session, "run")
    [vector] = embed.queries(["kafka stream kafka of [CLS]"])
    assert vector.as_dict() == {VOCABULARY["stream"]: 3.5, VOCABULARY["kafka"]: 7.25}
    assert vector.indices.tolist() == sorted(vector.indices.tolist())
    [empty] = embed.queries(["of text"])
    assert len(empty.values) == 0
    assert embed.queries.count_tokens(["kafka stream"]) == 4


@pytest.mark.parametrize("content", ["not json", "[1]", json.dumps({"kafka": "many"})])
def test_weights_that_cannot_be_read_are_an_error_that_names_the_file(
    tmp_path: Path, content: str
) -> None:
    model = write_inference_free(tmp_path)
    (tmp_path / "idf.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelFilesError, match=r"idf\.json should hold a JSON object of weights"):
        opened(model)


def test_an_output_that_the_graph_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"'logits' is not in the graph; it has last_hidden"):
        opened(row(write(tmp_path), Splade(output="logits"), dim=0))


def test_an_output_can_be_named(tmp_path: Path) -> None:
    model = write_splade(tmp_path)
    named = row(tmp_path, Splade(output="logits"), dim=0)
    same(opened(named)(["a kafka stream"]), opened(model)(["a kafka stream"]))


def test_the_order_of_most_and_logarithm_changes_no_number() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 5, 40)).astype(np.float32) * 5
    mask = np.array([[1] * 5, [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]])
    ours = np.log1p(np.maximum(most_over_tokens(logits, mask), 0))
    theirs = (np.log1p(np.maximum(logits, 0)) * mask[..., None]).max(axis=1)
    np.testing.assert_array_equal(ours, theirs)
