"""Words are split, stopped and hashed alike for ever; what became of a word is remembered."""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from pathlib import Path

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream.words import (
    Remembered,
    bm25_weights,
    is_punctuation,
    snowball,
    split,
    stop_words,
    token_id,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n", []),
        ("It's 3.14, OK_then!", ["it", "s", "3", "14", "ok_then"]),
        ("_ __ _a", ["_", "__", "_a"]),
        ("emoji 🙂 between", ["emoji", "between"]),
        ("这是一个，句子", ["这是一个", "句子"]),
        ("ΟΔΥΣΣΕΥΣ ΑΣ.Α", ["οδυσσευς", "ας", "α"]),
        ("İİ", ["i", "i"]),
        ("e\u0301", ["e"]),
        ("\x1c\x00a\x85b\u2028c", ["a", "b", "c"]),
    ],
)
def test_a_text_is_split_at_what_is_no_letter_or_digit(text: str, words: list[str]) -> None:
    assert split(text) == words


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_for_ascii_gives_what_the_long_way_gives(text: str) -> None:
    assert split(text) == re.findall(r"\w+", text.lower())


def test_a_word_keeps_its_dimension_for_ever() -> None:
    known = {"stream": 771713658, "": 0, "ж": 799765989}
    assert {word: token_id(word) for word in known} == known
    for word in ("a", "stream", "日本", "x" * 1000):
        assert token_id(word) == abs(mmh3.hash(word)) >= 0


def test_punctuation_is_one_character_that_unicode_calls_so() -> None:
    assert all(map(is_punctuation, "!_-.,«»¿。、"))
    assert not any(map(is_punctuation, ["", "a", "1", "$", "+", "..", "🙂"]))
    called_so = {c for c in map(chr, range(128)) if unicodedata.category(c)[0] == "P"}
    assert {c for c in string.printable if is_punctuation(c)} == called_so
    assert not is_punctuation(chr(sys.maxunicode))


def test_stop_words_are_one_a_line_and_an_absent_list_has_none(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("og\når\n", encoding="utf-8")
    assert stop_words(path) == {"og", "år"}
    assert stop_words(tmp_path / "absent.txt") == frozenset()


def test_a_stemmer_is_that_of_its_language() -> None:
    assert snowball("english").stem_word("running") == "run"
    assert snowball("german").stem_word("büchern") == "buch"
    with pytest.raises(ValueError, match="polish"):
        snowball("polish")


def test_a_word_seen_before_is_not_worked_out_again() -> None:
    asked: list[str] = []

    def length(word: str) -> int:
        asked.append(word)
        return len(word)

    remembered = Remembered(length)
    assert [remembered[word] for word in ("a", "bc", "a", "a")] == [1, 2, 1, 1]
    assert asked == ["a", "bc"]


def test_the_memory_is_bounded_in_words_and_in_their_length() -> None:
    remembered = Remembered(len, most=10)
    for number in range(1000):
        assert remembered[f"word {number}"] == len(f"word {number}")
        assert len(remembered) <= 10
    assert remembered["x" * 1_000_000] == 1_000_000
    assert max(map(len, remembered)) < 100


def test_a_weight_grows_with_the_count_up_to_its_bound_and_falls_with_the_length() -> None:
    weights = bm25_weights(np.arange(1, 1000), 100, k=1.2, b=0.75, avg_len=256)
    assert (np.diff(weights) > 0).all()
    assert weights[-1] < 2.2
    lengths = np.array([1, 10, 1000])
    falling = bm25_weights(np.ones(3, dtype=np.int64), lengths, k=1.2, b=0.75, avg_len=256)
    assert (np.diff(falling) < 0).all()
