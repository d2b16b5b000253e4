"""
BM42: weights of the words that stand in a text, by the attention that the first token pays them.

Source: https://qdrant.tech/articles/bm42/. A query runs no graph: its words weigh one, and the
server multiplies by the IDF.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.families.word_pieces import WordPieces
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.kinds import SPARSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.plain_embedder import PlainEmbedder
from fastembed_stream.values import SparseEmbedding
from fastembed_stream.words import Remembered, snowball, stop_words, token_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.tokens import Reading, Tokens
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = ["Bm42", "Bm42Family", "Bm42Queries", "Dimensions"]

_LEFT_OUT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm42:
    """
    BM42: words weighed by the attention that the first token pays them; a query's weigh one.

    alpha       exponent on log(1 + attention)
    output      name of the graph's output float[batch, heads, seq, seq] with the attention
    language    of the stemmer
    vocab_size  of the tokenizer, for information
    """

    kind: ClassVar = SPARSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()
    needs_idf: ClassVar = True

    alpha: float = 0.5
    output: str = "attention_6"
    language: str = "english"
    vocab_size: int = 30_522

    def open(self, located: LocatedModel) -> OpenModel[str, str, SparseEmbedding]:
        """Bind this recipe to a graph; SettingError where the graph lacks the attention."""
        tokens, sessions = located.tokens(), located.sessions()
        dimensions = Dimensions(
            tokens,
            language=self.language,
            stop_words=stop_words(located.folder / "stopwords.txt"),
        )
        family = Bm42Family(
            recipe=self,
            dimensions=dimensions,
            tokens=tokens,
            outputs=(output_name(self.output, sessions[0].outputs),),
        )
        what = "BM42 expects the graph to give attention of shape (batch, heads, seq, seq)"
        attention = Expected(what=what, ranks=(4,))
        check_graph(located, sessions[0], family, attention)
        return OpenModel(
            documents=OnnxEmbedder(family, sessions, budget=located.runtime.token_budget),
            queries=PlainEmbedder(Bm42Queries(tokens, dimensions)),
            max_tokens=tokens.limit,
        )


class Dimensions:
    """
    Token ids to the dimensions of their words.

    stop_words  words that are left out; so is punctuation, of ASCII alone
    """

    def __init__(self, tokens: Tokens, *, language: str, stop_words: frozenset[str]) -> None:
        self._pieces = WordPieces.of(tokens)
        self._left_out = stop_words | set(string.punctuation)
        self._stemmer = snowball(language)
        self._of: Remembered[int] = Remembered(self._dimension)

    def ordinary(self, ids: Ints) -> Ints:
        """Give the positions of all tokens that are not special, int64[n]."""
        return np.flatnonzero(~self._pieces.special[ids])

    def of(self, ids: Ints) -> tuple[list[int], Ints]:
        """
        Give the dimension of each word in a row, below zero where it is left out, and its start.

        ids      int64[n_tokens], without special tokens
        returns  n_words dimensions, int64[n_words] positions in `ids`
        """
        words, starts = self._pieces.words(ids)
        return [self._of[word] for word in words], starts

    def _dimension(self, word: str) -> int:
        return _LEFT_OUT if word in self._left_out else token_id(self._stemmer.stem_word(word))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm42Family(TextFamily):
    """A BM42 model in use, for documents."""

    recipe: Bm42
    dimensions: Dimensions

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[SparseEmbedding]:
        """
        Weigh the words of one group.

        outputs  the attention, float[batch, heads, seq, seq]
        returns  one vector for each row
        """
        [attention] = outputs
        mask = feeds["attention_mask"] > 0
        # The first token is not at the first place where the fill stands before the text.
        first = attention[np.arange(len(mask)), :, mask.argmax(axis=1)]
        pooled: Floats = first.mean(axis=1, dtype=np.float32)
        rows = zip(feeds["input_ids"], pooled, mask, strict=True)
        return [self._vector(ids[real], weights[real]) for ids, weights, real in rows]

    def _vector(self, ids: Ints, weights: Floats) -> SparseEmbedding:
        kept = self.dimensions.ordinary(ids)
        if not len(kept):
            return SparseEmbedding.from_dict({})
        dimensions, starts = self.dimensions.of(ids[kept])
        most: dict[int, float] = {}
        summed = np.add.reduceat(weights[kept], starts).tolist()
        for dimension, weight in zip(dimensions, summed, strict=True):
            # So written that what is not a number shows.
            if not weight <= most.setdefault(dimension, 0.0):
                most[dimension] = weight
        most.pop(_LEFT_OUT, None)
        attention = np.fromiter(most.values(), dtype=np.float32, count=len(most))
        return SparseEmbedding(
            values=np.log(1 + attention) ** np.float32(self.recipe.alpha),
            indices=np.fromiter(most, dtype=np.int64, count=len(most)),
        )


class Bm42Queries:
    """Queries to the dimensions of their words, without a graph."""

    def __init__(self, tokens: Tokens, dimensions: Dimensions) -> None:
        self._tokens = tokens
        self._dimensions = dimensions

    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids."""
        return self._tokens.read(rows)

    def answers(self, reading: Reading) -> list[SparseEmbedding]:
        """Give one for each word, once."""
        return [self._vector(ids) for ids in reading.ids]

    def _vector(self, ids: Ints) -> SparseEmbedding:
        dimensions, _ = self._dimensions.of(ids[self._dimensions.ordinary(ids)])
        ones = dict.fromkeys(dimensions, 1.0)
        ones.pop(_LEFT_OUT, None)
        return SparseEmbedding.from_dict(ones)
