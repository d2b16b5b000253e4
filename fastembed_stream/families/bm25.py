"""
BM25: weights of the words that stand in a text, without a network and without files.

A document's words carry BM25's term frequencies, a query's words weigh one, and the server
multiplies both by the words' IDF. Nothing is fetched: the stop words come with this package.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.computed import Computed
from fastembed_stream.opened import Opening, OpenModel
from fastembed_stream.rows import checked_texts
from fastembed_stream.values import SparseEmbedding
from fastembed_stream.words import (
    Remembered,
    bm25_weights,
    is_punctuation,
    snowball,
    split,
    stop_words,
    token_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.recipes import Bm25, Stemmer
    from fastembed_stream.values import Ints

__all__ = ["Bm25Rule", "open_bm25"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Rows as words; nothing is ever cut."""

    words: tuple[Sequence[str], ...]
    lengths: Ints
    truncated_rows: int = 0
    truncated_tokens: int = 0


class Bm25Rule:
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


def open_bm25(opening: Opening, recipe: Bm25) -> OpenModel[str, str, SparseEmbedding]:
    """Read the stop words, unless the recipe has its own or wants none."""
    words = frozenset[str]().union(*(stop_words(opening.files / name) for name in recipe.files))
    if recipe.stopwords is not None:
        words = frozenset(recipe.stopwords)
    return OpenModel(
        documents=Computed(Bm25Rule(recipe, words, is_query=False)),
        queries=Computed(Bm25Rule(recipe, words, is_query=True)),
    )


def _stemmer(recipe: Bm25) -> Stemmer | None:
    if recipe.disable_stemmer:
        return None
    return recipe.stemmer or snowball(recipe.language)
