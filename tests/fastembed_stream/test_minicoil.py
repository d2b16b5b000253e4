"""MiniCOIL gives known words dimensions of their own and counts the others as BM25 does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import SPARSE_TEXT, OpenModel, Runtime, SparseEmbedding, open_model
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.minicoil import MiniCoil
from fastembed_stream.families.minicoil_files import Lexicon, Meanings
from fastembed_stream.model import Model
from fastembed_stream.words import bm25_weights, snowball
from tests.fastembed_stream.tiny_models import row
from tests.fastembed_stream.tiny_sparse import KNOWN, N_MEANINGS, write_minicoil

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
NUMBER = {word: number for number, word in enumerate(KNOWN, start=1)}


def opened(model: Model) -> OpenModel[str, str, SparseEmbedding]:
    return open_model(model, SPARSE_TEXT, runtime=ON_CPU)


def lexicon(folder: Path) -> Lexicon:
    write_minicoil(folder)
    return Lexicon.open(folder, language="english", dim=N_MEANINGS)


def own(word: str) -> list[int]:
    return [NUMBER[word] * N_MEANINGS + place for place in range(N_MEANINGS)]


def test_a_known_word_has_dimensions_of_its_own_and_its_weight_as_length(tmp_path: Path) -> None:
    [vector] = opened(write_minicoil(tmp_path))(["kafka and the kafkas"])
    known = vector.as_dict()
    assert set(own("kafka")) <= set(known)
    [weight, other] = bm25_weights(np.array([2, 1]), 3, k=1.2, b=0.75, avg_len=150)
    length = np.linalg.norm([known[place] for place in own("kafka")])
    assert length == pytest.approx(weight, rel=1e-5)
    rest = set(known) - set(own("kafka"))
    assert [known[place] for place in rest] == pytest.approx([other], rel=1e-6)
    assert min(rest) >= 64_000


def test_a_querys_words_weigh_one(tmp_path: Path) -> None:
    [vector] = opened(write_minicoil(tmp_path)).queries(["kafka kafka zq zq"])
    values = vector.as_dict()
    assert np.linalg.norm([values.pop(place) for place in own("kafka")]) == pytest.approx(1)
    assert list(values.values()) == [1.0]


def test_one_word_differs_by_its_neighbours(tmp_path: Path) -> None:
    one, other = opened(write_minicoil(tmp_path)).queries(["kafka stream", "of text kafka"])
    gap = [one.as_dict()[place] - other.as_dict()[place] for place in own("kafka")]
    assert np.abs(gap).max() > 1e-3


@pytest.mark.parametrize("text", ["", "the a is", ", . ?", "[CLS]"])
def test_a_text_without_words_has_an_empty_vector(tmp_path: Path, text: str) -> None:
    [empty] = opened(write_minicoil(tmp_path))([text])
    assert len(empty.values) == len(empty.indices) == 0


def test_words_are_found_by_name_or_by_stem_unless_stopped(tmp_path: Path) -> None:
    number_of = lexicon(tmp_path).number_of
    assert number_of["streams"] == number_of["stream"] == NUMBER["stream"]
    assert [number_of[word] for word in ("zq", "the", "[CLS]", "")] == [0, 0, 0, 0]


def test_unknown_words_are_taken_apart_at_signs_and_stemmed(tmp_path: Path) -> None:
    parts_of = lexicon(tmp_path).parts_of
    assert parts_of["walking°walked"] == ("walk", "walk")
    assert parts_of["9°"] == ("9",)
    for word in ("the", "[CLS]", "。", "°", "the°a", "x" * 41):
        assert parts_of[word] == ()


def test_unknown_words_stand_above_all_known_ones(tmp_path: Path) -> None:
    dimension_of = lexicon(tmp_path).dimension_of
    assert 64_000 <= dimension_of["zq"] < 2**31
    names = [f"w{number}" for number in range(20_000)]
    many = Lexicon(names, {}, stop_words=frozenset(), stemmer=snowball("english"), dim=4)
    assert 20_001 * 4 < 128_000 <= many.dimension_of["zq"] < 2**31


def test_meanings_are_of_length_one_and_of_the_average_token() -> None:
    matrices = np.stack([np.zeros((2, 2)), np.eye(2), 2 * np.eye(2)]).astype(np.float32)
    meanings = Meanings(matrices)
    vectors = np.array([[9, 9], [1, 0], [0, 1], [0.1, 0]], np.float32)
    got = meanings.of(np.array([1, 2]), np.array([0, 1, 1, 2]), vectors)
    np.testing.assert_allclose(got, [[0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-6)
    nothing = meanings.of(np.array([1]), np.array([1]), np.zeros((1, 2), dtype=np.float32))
    assert not nothing.any()
    assert meanings.of(np.array([], dtype=int), np.array([0]), vectors[:1]).shape == (0, 2)


def test_damaged_files_are_errors_that_name_them(tmp_path: Path) -> None:
    model = write_minicoil(tmp_path)
    matrices, vocabulary = (tmp_path / name for name in model.other_files[1:])
    whole, words = matrices.read_bytes(), vocabulary.read_text(encoding="utf-8")
    matrices.write_bytes(b"damaged")
    with pytest.raises(ModelFilesError, match=r"npy should hold one matrix a word"):
        opened(model)
    np.save(matrices, np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ModelFilesError, match=r"3 axes .* it has \(2, 2\)"):
        opened(model)
    np.save(matrices, np.zeros((2, 2, 2), dtype=np.float32))
    with pytest.raises(ModelFilesError, match=r"needs 5 matrices; there are 2"):
        opened(model)
    matrices.write_bytes(whole)
    for damage in ("[]", "{}", "damaged"):
        vocabulary.write_text(damage, encoding="utf-8")
        with pytest.raises(ModelFilesError, match=r"vocab should be JSON with 'vocab'"):
            opened(model)
    stems = json.loads(words) | {"stem_mapping": {"run": "running"}}
    vocabulary.write_text(json.dumps(stems), encoding="utf-8")
    with pytest.raises(ModelFilesError, match=r"words that 'vocab' lacks: \['running'\]"):
        opened(model)


def test_constants_that_cannot_be_right_are_refused_at_birth(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"avg_len above 0"):
        row(tmp_path, MiniCoil(avg_len=0), dim=0)
