"""
BM25: weights of the words that stand in a text, without a network and without files.

A document's words carry BM25's term frequencies, a query's words weigh one, and the server
multiplies both by the words' IDF. Nothing is fetched: the stop words come with this package.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import SettingError
from fastembed_stream.kinds import SPARSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.plain_embedder import PlainEmbedder
from fastembed_stream.rows import checked_texts
from fastembed_stream.values import SparseEmbedding
from fastembed_stream.words import (
    SNOWBALL_LANGUAGES,
    Remembered,
    bm25_weights,
    check_bm25,
    is_punctuation,
    snowball,
    split,
    stop_words,
    token_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from fastembed_stream.values import Ints
    from fastembed_stream.words import Stemmer

__all__ = ["Bm25", "Bm25Family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm25:
    """
    BM25's weights of the words of a document; a query's words weigh one, the server adds IDF.

    k, b, avg_len     BM25's saturation, its share of the length, and the corpus' mean length
    language          of the stemmer and the stop words; one of `SNOWBALL_LANGUAGES`, or any word
                      where `stemmer` or `disable_stemmer` is given
    token_max_length  longer words are left out
    disable_stemmer   neither stem nor drop the language's stop words
    stemmer           instead of the language's Snowball stemmer
    stopwords         words instead of the language's, kept in lower case
    tokenizer         splits a text into words, instead of at what is no letter or digit
    raises            SettingError

    Source: Robertson and Zaragoza, 2009, The Probabilistic Relevance Framework: BM25 and Beyond.
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = True

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 256.0
    language: str = "english"
    token_max_length: int = 40
    disable_stemmer: bool = False
    stemmer: Stemmer | None = None
    stopwords: Collection[str] | None = None
    tokenizer: Callable[[str], Sequence[str]] | None = None

    def __post_init__(self) -> None:
        check_bm25(self.k, self.b, self.avg_len)
        if self.disable_stemmer and self.stemmer is not None:
            msg = "`stemmer` and disable_stemmer=True contradict each other; give one of them."
            raise SettingError(msg)
        is_known = self.language in SNOWBALL_LANGUAGES
        if not is_known and self.stemmer is None and not self.disable_stemmer:
            msg = (
                f"No stemmer for language {self.language!r}; there are those for "
                f"{', '.join(SNOWBALL_LANGUAGES)}. Pass stemmer= or disable_stemmer=True, and "
                "stopwords= if you have them."
            )
            raise SettingError(msg)
        if isinstance(self.stopwords, str):
            msg = f"`stopwords` takes several words; got the text {self.stopwords!r}."
            raise SettingError(msg)
        if self.stopwords is not None:
            lower = frozenset(word.lower() for word in self.stopwords)
            object.__setattr__(self, "stopwords", lower)

    @property
    def files(self) -> tuple[str, ...]:
        """Name the list of stop words that has to be there; none where none is used."""
        is_listed = self.language in SNOWBALL_LANGUAGES and self.language != "tamil"
        if self.stopwords is not None or self.disable_stemmer or not is_listed:
            return ()
        return (f"{self.language}.txt",)

    def open(self, located: LocatedModel) -> OpenModel[str, str, SparseEmbedding]:
        """Read the stop words, unless the recipe has its own or wants none."""
        words = frozenset[str]().union(*(stop_words(located.folder / name) for name in self.files))
        if self.stopwords is not None:
            words = frozenset(self.stopwords)
        return OpenModel(
            documents=PlainEmbedder(Bm25Family(self, words, is_query=False)),
            queries=PlainEmbedder(Bm25Family(self, words, is_query=True)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Rows as words; nothing is ever cut."""

    words: tuple[Sequence[str], ...]
    lengths: Ints
    truncated_rows: int = 0
    truncated_tokens: int = 0


class Bm25Family:
    """
    Texts to weights of their words.

    stop_words  words that are left out, in lower case
    is_query    whether each word weighs one
    """

    def __init__(self, recipe: Bm25, stop_words: frozenset[str], *, is_query: bool) -> None:
        self._recipe = recipe
        self._stop_words = stop_words
        self._is_query = is_query
        self._split = recipe.tokenizer or split
        self._stemmer = _stemmer(recipe)
        self._stems: Remembered[str] = Remembered(self._stem)
        self._ids: Remembered[int] = Remembered(token_id)

    def read(self, rows: Sequence[str]) -> _Reading:
        """Split texts into words, stop words included."""
        words = tuple(map(self._split, checked_texts(rows)))
        return _Reading(
            words=words, lengths=np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        )

    def answers(self, reading: _Reading) -> list[SparseEmbedding]:
        """Give the weights of each row's distinct words, in the order of their first place."""
        rows: list[dict[int, int]] = []
        lengths: list[int] = []
        for words in reading.words:
            counts = Counter(map(self._stems.__getitem__, words))
            lengths.append(len(words) - counts.pop("", 0))
            # Where two words share an id the later one counts, as in fastembed.
            rows.append(dict(zip(map(self._ids.__getitem__, counts), counts.values(), strict=True)))
        return self._weighed(rows, np.array(lengths, dtype=np.int64))

    def _weighed(self, rows: list[dict[int, int]], lengths: Ints) -> list[SparseEmbedding]:
        sizes = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        n = int(sizes.sum())
        indices = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=n)
        values = np.ones(n, dtype=np.float32)
        if not self._is_query:
            counts = np.fromiter(
                chain.from_iterable(row.values() for row in rows), dtype=np.int64, count=n
            )
            recipe = self._recipe
            values = bm25_weights(
                counts, np.repeat(lengths, sizes), k=recipe.k, b=recipe.b, avg_len=recipe.avg_len
            ).astype(np.float32)
        ends = np.cumsum(sizes).tolist()
        return [
            SparseEmbedding(values=values[start:end], indices=indices[start:end])
            for start, end in zip([0, *ends], ends, strict=False)
        ]

    def _stem(self, word: str) -> str:
        """Give what a word is counted as; nothing where it is left out."""
        lower = word.lower()
        if is_punctuation(word) or lower in self._stop_words:
            return ""
        if len(word) > self._recipe.token_max_length:
            return ""
        return lower if self._stemmer is None else self._stemmer.stem_word(lower)


def _stemmer(recipe: Bm25) -> Stemmer | None:
    if recipe.disable_stemmer:
        return None
    return recipe.stemmer or snowball(recipe.language)
