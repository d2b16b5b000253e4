"""BM42 puts word pieces together again and weighs words by the first token's attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import SPARSE_TEXT, OpenModel, Runtime, SparseEmbedding, open_model
from fastembed_stream.errors import SettingError
from fastembed_stream.families.bm42 import Bm42, Bm42Family
from fastembed_stream.families.word_pieces import WordPieces
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.session import Session
from fastembed_stream.tokens import Tokens
from fastembed_stream.words import token_id
from tests.fastembed_stream.tiny_models import VOCABULARY, row, write
from tests.fastembed_stream.tiny_sparse import write_bm42

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)


@pytest.fixture
def embed(tmp_path: Path) -> OpenModel[str, str, SparseEmbedding]:
    return open_model(write_bm42(tmp_path), SPARSE_TEXT, runtime=ON_CPU)


def weighed(
    embed: OpenModel[str, str, SparseEmbedding], text: str, weights: list[float]
) -> dict[int, float]:
    """Finish a text as if the first token paid these weights, on average over the heads."""
    assert isinstance(embed.documents, OnnxEmbedder)
    family = embed.documents.family
    assert isinstance(family, Bm42Family)
    reading = family.read([text])
    feeds = family.pack(reading, np.array([0]))
    n = len(reading.ids[0])
    assert n == len(weights)
    attention = np.zeros((1, 2, n, n), dtype=np.float32)
    attention[0, 0, 0] = 2 * np.array(weights, np.float32)
    [vector] = family.finish([attention], feeds)
    return vector.as_dict()


def test_the_weights_of_the_pieces_of_a_word_add_up(
    embed: OpenModel[str, str, SparseEmbedding],
) -> None:
    # kafka is one piece; zq is two.
    got = weighed(embed, "kafka zq", [0.1, 0.2, 0.3, 0.25, 0.15])
    expected = {token_id("kafka"): np.log1p(0.2) ** 0.5, token_id("zq"): np.log1p(0.55) ** 0.5}
    assert got == pytest.approx(expected, rel=1e-6)


def test_a_stem_weighs_the_most_of_its_words(embed: OpenModel[str, str, SparseEmbedding]) -> None:
    got = weighed(embed, "text text text", [0, 0.1, 0.5, 0.2, 0])
    assert got == pytest.approx({token_id("text"): np.log1p(0.5) ** 0.5}, rel=1e-6)


def test_stop_words_punctuation_and_special_tokens_are_left_out(
    embed: OpenModel[str, str, SparseEmbedding],
) -> None:
    got = weighed(embed, "the, [SEP] of", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert got.keys() == {token_id("of")}


def test_the_exponent_is_the_recipes(tmp_path: Path) -> None:
    write_bm42(tmp_path)
    model = row(tmp_path, Bm42(alpha=2.0), dim=0)
    embed = open_model(model, SPARSE_TEXT, runtime=ON_CPU)
    got = weighed(embed, "kafka", [0.1, 0.4, 0.2])
    assert got == pytest.approx({token_id("kafka"): np.log1p(0.4) ** 2}, rel=1e-6)


def test_a_query_weighs_one_for_each_stem_and_runs_no_graph(
    embed: OpenModel[str, str, SparseEmbedding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Session, "run")
    [vector] = embed.queries(["the kafka vectors, vector zq"])
    stems = ("kafka", "vector", "zq")
    assert vector.as_dict() == dict.fromkeys(map(token_id, stems), 1.0)
    [empty] = embed.queries(["the , a"])
    assert len(empty.values) == 0


@pytest.mark.parametrize("text", ["", "the", ", ."])
def test_a_text_without_words_has_an_empty_vector(
    embed: OpenModel[str, str, SparseEmbedding], text: str
) -> None:
    [empty, other] = embed([text, "kafka"])
    assert len(empty.values) == len(empty.indices) == 0
    assert other.indices.tolist() == [token_id("kafka")]


def test_only_the_attention_is_asked_of_the_graph(
    embed: OpenModel[str, str, SparseEmbedding],
) -> None:
    assert isinstance(embed.documents, OnnxEmbedder)
    assert list(embed.documents.family.outputs) == ["attention_6"]


def test_a_graph_without_the_attention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"'attention_6' is not in the graph"):
        open_model(row(write(tmp_path), Bm42(), dim=0), SPARSE_TEXT, runtime=ON_CPU)


def test_pieces_become_the_words_they_were(tmp_path: Path) -> None:
    model = write_bm42(tmp_path)
    pieces = WordPieces.of(Tokens.open(tmp_path, model))

    def words(*names: str) -> tuple[list[str], list[int]]:
        found, starts = pieces.words(np.array([VOCABULARY[name] for name in names], dtype=int))
        return found, starts.tolist()

    assert words() == ([], [])
    assert words("kafka", "of") == (["kafka", "of"], [0, 1])
    assert words("x", "##y", "##z", "of", "a", "##b") == (["xyz", "of", "ab"], [0, 3, 4])
    assert words("##y", "of") == (["y", "of"], [0, 1])
    assert np.flatnonzero(pieces.special).tolist() == [0, 1, 2, 3, 4]
