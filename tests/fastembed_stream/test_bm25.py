"""BM25 needs no files: words, stems and stop words of 18 languages come with the package."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import (
    SPARSE_TEXT,
    Bm25,
    Fetching,
    LocalFolder,
    OpenModel,
    SparseEmbedding,
    catalog,
    fingerprint,
    locate,
    open_model,
)
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families import bm25 as family
from fastembed_stream.words import SNOWBALL_LANGUAGES, stop_words, token_id
from tests.fastembed_stream.tiny_sparse import bm25, same

N_STOP_WORDS = {
    "arabic": 701,
    "danish": 94,
    "dutch": 101,
    "english": 179,
    "finnish": 229,
    "french": 157,
    "german": 232,
    "greek": 265,
    "hungarian": 198,
    "italian": 279,
    "norwegian": 172,
    "portuguese": 207,
    "romanian": 356,
    "russian": 151,
    "spanish": 313,
    "swedish": 114,
    "turkish": 53,
}


def opened(**options: Any) -> OpenModel[str, str, SparseEmbedding]:
    return open_model(bm25(**options), SPARSE_TEXT)


def ids(*stems: str) -> list[int]:
    return [token_id(stem) for stem in stems]


def test_a_document_has_the_weights_of_its_stems() -> None:
    [vector] = opened()(["Streams, and the streaming of a text"])
    assert vector.indices.tolist() == ids("stream", "text")
    scale = 1 - 0.75 + 0.75 * 3 / 256
    expected = [2 * 2.2 / (2 + 1.2 * scale), 2.2 / (1 + 1.2 * scale)]
    np.testing.assert_allclose(vector.values, expected, rtol=1e-6)


def test_a_querys_stems_weigh_one_each() -> None:
    [vector] = opened().queries(["Streams, and the streaming of a text"])
    assert vector.as_dict() == dict.fromkeys(ids("stream", "text"), 1.0)
    assert vector.values.dtype == np.float32


@pytest.mark.parametrize("text", ["", "  ", "the", "_", "?!", "x" * 41, "🙂"])
def test_a_text_without_words_has_an_empty_vector(text: str) -> None:
    for answers in (opened()([text, "word"]), opened().queries([text, "word"])):
        assert [len(vector.values) for vector in answers] == [0, 1]


def test_a_word_as_long_as_allowed_stays_and_a_longer_one_goes() -> None:
    [vector] = opened()(["x" * 40 + " " + "y" * 41])
    assert vector.indices.tolist() == ids("x" * 40)
    [short] = opened(token_max_length=2)(["xy xyz"])
    assert short.indices.tolist() == ids("xy")


def test_nothing_is_fetched_and_no_socket_or_cache_is_touched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*args: Any, **settings: Any) -> Any:
        del args, settings
        raise AssertionError

    monkeypatch.setattr(socket, "socket", refused)
    cache = tmp_path / "cache"
    for language in SNOWBALL_LANGUAGES:
        model = replace(catalog.find("Qdrant/bm25", SPARSE_TEXT), recipe=Bm25(language=language))
        fetching = Fetching(cache_dir=cache, offline=True)
        [vector] = open_model(model, SPARSE_TEXT, fetching=fetching)(["word 123"])
        assert len(vector.values) == 2
    assert not cache.exists()


def test_every_languages_list_is_here_and_whole() -> None:
    folder = locate(bm25())
    for language in SNOWBALL_LANGUAGES:
        words = stop_words(folder / f"{language}.txt")
        assert len(words) == N_STOP_WORDS.get(language, 0), language
        assert all(word == word.strip().lower() != "" for word in words)
    assert {path.stem for path in folder.glob("*.txt")} == N_STOP_WORDS.keys()


def test_stop_words_are_those_of_the_language() -> None:
    words = "the and og ikke aber nicht"
    left = {
        language: len(opened(language=language)([words])[0].values)
        for language in ("english", "danish", "german", "tamil")
    }
    assert left == {"english": 4, "danish": 4, "german": 4, "tamil": 6}


def test_the_users_stop_words_hold_whatever_their_case_and_container() -> None:
    for words in ({"KAFKA"}, frozenset({"Kafka"}), {"kafka": 1}.keys()):
        recipe = Bm25(stopwords=words)
        assert recipe.stopwords == frozenset({"kafka"})
        [vector] = opened(stopwords=words)(["Kafka and streams"])
        assert vector.indices.tolist() == ids("and", "stream")
    [all_of_them] = opened(stopwords=set())(["the stream"])
    assert all_of_them.indices.tolist() == ids("the", "stream")


def test_without_a_stemmer_words_stay_whole_and_stop_words_stay_in() -> None:
    [vector] = opened(disable_stemmer=True)(["the Streams"])
    assert vector.indices.tolist() == ids("the", "streams")


class Upper:
    def stem_word(self, word: str) -> str:
        return "" if word == "gone" else word.upper()


def test_a_stemmer_of_the_users_own_serves_any_language_and_may_drop_words() -> None:
    [vector] = opened(stemmer=Upper(), language="klingon")(["The gone Word"])
    assert vector.indices.tolist() == ids("THE", "WORD")


def characters(text: str) -> Sequence[str]:
    return list(text)


def test_a_tokenizer_of_the_users_own_serves_languages_without_spaces() -> None:
    plain = {"language": "chinese", "disable_stemmer": True}
    [whole] = opened(**plain)(["数据流"])
    assert whole.indices.tolist() == ids("数据流")
    embed = opened(**plain, tokenizer=characters, stopwords={"流"})
    [split] = embed(["数据流。 Ab"])
    assert split.indices.tolist() == ids("数", "据", " ", "a", "b")
    assert embed.count_tokens(["数据流。"]) == 4


def test_words_that_share_a_dimension_keep_one_place_as_in_fastembed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed: Callable[[str], int] = len
    monkeypatch.setattr(family, "token_id", hashed)
    [vector] = opened(disable_stemmer=True)(["one one two"])
    alone = opened(disable_stemmer=True)(["two six six"])
    assert vector.indices.tolist() == [3]
    assert vector.values[0] < alone[0].values[0]


def test_a_list_of_the_users_own_is_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "english.txt").write_text("stream\n", encoding="utf-8")
    [vector] = open_model(bm25(), SPARSE_TEXT, folder=tmp_path)(["the stream"])
    assert vector.indices.tolist() == ids("the")
    row = replace(bm25(), source=LocalFolder(path=tmp_path))
    same(open_model(row, SPARSE_TEXT)(["the stream"]), [vector])


def test_a_folder_without_the_list_is_refused_unless_none_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"needs 'danish\.txt', which is not in"):
        open_model(bm25(language="danish"), SPARSE_TEXT, folder=tmp_path)
    with pytest.raises(ModelFilesError, match=r"does not exist. Give the folder that holds 'eng"):
        open_model(bm25(), SPARSE_TEXT, folder=tmp_path / "absent")
    with pytest.raises(ModelFilesError, match=r"does not exist. Give the folder that holds 'tests"):
        open_model(bm25(language="tamil"), SPARSE_TEXT, folder=tmp_path / "absent")
    for options in ({"language": "tamil"}, {"stopwords": {"a"}}, {"disable_stemmer": True}):
        open_model(bm25(**options), SPARSE_TEXT, folder=tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language": "polish"}, "No stemmer for language 'polish'; there are those for arabic"),
        ({"disable_stemmer": True, "stemmer": Upper()}, "contradict each other"),
        ({"stopwords": "the"}, "takes several words; got the text 'the'"),
        ({"avg_len": 0}, r"avg_len above 0; got 1\.2, 0\.75, 0"),
        ({"b": 1.5}, r"b in 0 to 1"),
        ({"k": -1}, r"k of 0 or more"),
    ],
)
def test_options_that_cannot_be_right_are_refused_at_birth(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Bm25(**options)


def test_the_fingerprint_changes_with_options_and_stop_words(tmp_path: Path) -> None:
    plain = fingerprint(bm25(), locate(bm25()))
    assert plain == fingerprint(bm25(), locate(bm25()))
    (tmp_path / "english.txt").write_text("stream\n", encoding="utf-8")
    others = [
        fingerprint(bm25(), tmp_path),
        fingerprint(bm25(k=2.0), locate(bm25())),
        fingerprint(bm25(language="german"), locate(bm25())),
        fingerprint(bm25(stopwords={"a", "b"}), locate(bm25())),
    ]
    assert len({plain, *others}) == 5
    assert others[-1] == fingerprint(bm25(stopwords={"b", "A"}), locate(bm25()))
