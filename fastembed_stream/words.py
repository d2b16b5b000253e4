"""
Words as the lexical families have them: split, stopped, stemmed, hashed.

Every step gives fastembed's results to the bit, since the ids of stored vectors come from them.
Most words of a text were seen before, so what became of a word is remembered.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Protocol, TypeVar

import mmh3
import numpy as np

from fastembed_stream.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from fastembed_stream.values import Ints

__all__ = [
    "SNOWBALL_LANGUAGES",
    "Remembered",
    "Stemmer",
    "bm25_weights",
    "check_bm25",
    "is_punctuation",
    "snowball",
    "split",
    "stop_words",
    "token_id",
]

Value = TypeVar("Value")

_WORD = re.compile(r"\w+")
_ASCII_WORDS = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() or chr(code) == "_" else ord(" ")
    for code in range(128)
).ljust(256)
"""What each byte of an ASCII text becomes before it is split at blanks: half `_WORD`'s time."""
_MOST_WORDS = 1 << 16
"""About as many words as a language has in daily use; some ten megabytes."""
_LONGEST_WORD = 64
"""Longer ones are hardly met again, and might be a megabyte each."""


SNOWBALL_LANGUAGES = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
)
"""Languages that have a Snowball stemmer."""


class Stemmer(Protocol):
    """Anything that reduces a lower-case word to its stem; an empty stem drops the word."""

    def stem_word(self, word: str) -> str:
        """Give the stem."""


def split(text: str) -> list[str]:
    """
    Split a text into lower-case runs of letters, digits and underscores.

    >>> split("It's a TEST_1!")
    ['it', 's', 'a', 'test_1']
    """
    if text.isascii():
        return text.encode("ascii").translate(_ASCII_WORDS).decode("ascii").split()
    # Split before lower-casing, which looks at neighbours (a Greek sigma at the end of a word),
    # and once more after it, since a letter may become a letter and a mark that is none.
    return _WORD.findall(" ".join(_WORD.findall(text)).lower())


def token_id(word: str) -> int:
    """
    Give the dimension of a word, by its hash.

    >>> token_id("stream")
    771713658
    """
    return abs(mmh3.hash(word))


def is_punctuation(word: str) -> bool:
    """Tell a single punctuation character, by Unicode's categories, from all else."""
    return len(word) == 1 and unicodedata.category(word).startswith("P")


def snowball(language: str) -> Stemmer:
    """Give the Snowball stemmer of a language; ValueError where there is none."""
    from py_rust_stemmers import SnowballStemmer

    stemmer: Stemmer = SnowballStemmer(language)
    return stemmer


def stop_words(path: Path) -> frozenset[str]:
    """Read one word a line; a list that is absent has none, as some models come without."""
    if not path.is_file():
        return frozenset()
    return frozenset(path.read_text(encoding="utf-8").splitlines())


def check_bm25(k: float, b: float, avg_len: float) -> None:
    """Raise SettingError for numbers that BM25 cannot weigh with."""
    if not (k >= 0 and 0 <= b <= 1 and avg_len > 0):
        msg = f"BM25 needs k of 0 or more, b in 0 to 1, avg_len above 0; got {k}, {b}, {avg_len}."
        raise SettingError(msg)


def bm25_weights(
    counts: Ints, lengths: Ints | int, *, k: float, b: float, avg_len: float
) -> NDArray[np.float64]:
    """
    Weigh words by how often they stand in their document, without the IDF.

    counts   int64[n], how often each word stands there
    lengths  int64[n] or one number, how many words its document has
    returns  float64[n], 0 to k + 1

    Source: Robertson and Zaragoza, 2009, The Probabilistic Relevance Framework: BM25 and Beyond.

    >>> bm25_weights(np.array([1, 2]), 256, k=1.2, b=0.75, avg_len=256)
    array([1.   , 1.375])
    """
    weights: NDArray[np.float64] = (
        counts * (k + 1) / (counts + k * (1 - b + b * np.asarray(lengths) / avg_len))
    )
    return weights


class Remembered(dict[str, Value]):
    """
    What a function says of a word, kept for the next time; safe to ask from several threads.

    Indexing is asking: it never fails for a word that was not seen. The memory is bounded: once it
    is full it starts afresh, and very long words are not kept.
    """

    def __init__(self, of: Callable[[str], Value], *, most: int = _MOST_WORDS) -> None:
        super().__init__()
        self._of = of
        self._most = most

    def __missing__(self, word: str) -> Value:
        value = self._of(word)
        if len(word) <= _LONGEST_WORD:
            if len(self) >= self._most:
                self.clear()
            self[word] = value
        return value
