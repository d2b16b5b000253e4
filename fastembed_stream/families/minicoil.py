"""
MiniCOIL: BM25's weights, each times a few numbers that tell the meanings of a word apart.

Source: https://qdrant.tech/articles/minicoil/. A word of the model's vocabulary gets `output_dim`
dimensions of its own: its token vectors, averaged, times its own small matrix. Any other word is
counted as in BM25, in dimensions above all those.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import ModelFilesError
from fastembed_stream.families.minicoil_files import Lexicon, Meanings
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.families.word_pieces import WordPieces
from fastembed_stream.graphs import check_graph, of_each_token
from fastembed_stream.kinds import SPARSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import SparseEmbedding
from fastembed_stream.words import bm25_weights, check_bm25

if TYPE_CHECKING:
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = ["MiniCoil", "MiniCoilFamily"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniCoil:
    """
    MiniCOIL: BM25's weights, each times a few numbers that tell the meanings of a word apart.

    k, b, avg_len  as in BM25
    output         which output of the graph holds the token vectors: a name, or a position
    language       of the stemmer
    vocab_size     words that have meanings, for information
    """

    kind: ClassVar = SPARSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()
    needs_idf: ClassVar = True

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 150.0
    output: str | int = 0
    language: str = "english"
    vocab_size: int = 19_125

    def __post_init__(self) -> None:
        check_bm25(self.k, self.b, self.avg_len)

    def open(self, located: LocatedModel) -> OpenModel[str, str, SparseEmbedding]:
        """
        Bind this recipe to a graph, a vocabulary and the meanings of its words.

        raises  SettingError where the graph lacks the wanted output; ModelFilesError where the
                vocabulary or the meanings cannot be read
        """
        tokens, sessions = located.tokens(), located.sessions()
        meanings = Meanings.open(located.folder)
        lexicon = Lexicon.open(located.folder, language=self.language, dim=meanings.dim)
        if len(meanings.matrices) != len(lexicon.names):
            msg = (
                f"The files in {located.folder} do not belong together: the vocabulary needs "
                f"{len(lexicon.names)} matrices; there are {len(meanings.matrices)}. Fetch them "
                "again."
            )
            raise ModelFilesError(msg)
        family = MiniCoilFamily(
            recipe=self,
            pieces=WordPieces.of(tokens),
            lexicon=lexicon,
            meanings=meanings,
            tokens=tokens,
            outputs=(output_name(self.output, sessions[0].outputs),),
        )
        hidden = int(meanings.matrices.shape[1])
        check_graph(located, sessions[0], family, of_each_token(hidden))
        documents = OnnxEmbedder(family, sessions, budget=located.runtime.token_budget)
        return OpenModel(
            documents=documents,
            queries=documents.with_family(replace(family, is_query=True)),
            max_tokens=tokens.limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniCoilFamily(TextFamily):
    """
    A MiniCOIL model in use.

    is_query  whether words weigh one instead of what BM25 says
    """

    recipe: MiniCoil
    pieces: WordPieces
    lexicon: Lexicon
    meanings: Meanings
    is_query: bool = False

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[SparseEmbedding]:
        """
        Weigh the words of one group.

        outputs  token vectors, float[batch, seq, dim]
        returns  one vector for each row
        """
        [hidden] = outputs
        rows = zip(hidden, feeds["input_ids"], feeds["attention_mask"] > 0, strict=True)
        return [self._vector(vectors[real], ids[real]) for vectors, ids, real in rows]

    def _vector(self, vectors: Floats, ids: Ints) -> SparseEmbedding:
        """
        Weigh the words of one row.

        vectors  float[n_tokens, dim]
        ids      int64[n_tokens]
        """
        words, starts = self.pieces.words(ids)
        numbers = [self.lexicon.number_of[word] for word in words]
        known, unknown = self._counts(words, numbers)
        n = np.fromiter([*known.values(), *unknown.values()], dtype=np.int64)
        weights = self._weights(n)
        wanted = np.fromiter(known, dtype=np.int64, count=len(known))
        of_token = np.repeat(np.array(numbers, dtype=np.int64), np.diff([*starts, len(ids)]))
        meant = self.meanings.of(wanted, of_token, vectors) * weights[: len(known), None]
        own = wanted[:, None] * self.meanings.dim + np.arange(self.meanings.dim)
        others = [self.lexicon.dimension_of[word] for word in unknown]
        # Where two unknown words share a dimension the later one counts: Qdrant takes each once.
        rest = dict(zip(others, weights[len(known) :].tolist(), strict=True))
        return SparseEmbedding(
            values=np.concatenate(
                (meant.ravel(), np.fromiter(rest.values(), dtype=np.float32, count=len(rest)))
            ).astype(np.float32, copy=False),
            indices=np.concatenate(
                (own.ravel(), np.fromiter(rest, dtype=np.int64, count=len(rest)))
            ),
        )

    def _counts(
        self, words: list[str], numbers: list[int]
    ) -> tuple[dict[int, int], dict[str, int]]:
        """
        Count the words that have meanings, by number, and the others, by stem.

        An unknown word may be taken apart at signs, and a part of it may be the name of a known
        word in this row: then that one is counted.
        """
        known = dict(sorted(Counter(number for number in numbers if number).items()))
        others = Counter(word for word, number in zip(words, numbers, strict=True) if not number)
        named = {self.lexicon.names[number]: number for number in known}
        for word in others.keys() & named.keys():
            # A stop word that is also the name of a known word hides it, as in fastembed.
            del known[named.pop(word)]
        unknown: dict[str, int] = {}
        for word, n in others.items():
            for part in self.lexicon.parts_of[word]:
                if part in named:
                    known[named[part]] += n
                else:
                    unknown[part] = unknown.get(part, 0) + n
        return known, unknown

    def _weights(self, counts: Ints) -> Floats:
        if self.is_query:
            return np.ones(len(counts), dtype=np.float32)
        k, b, avg_len = self.recipe.k, self.recipe.b, self.recipe.avg_len
        weights = bm25_weights(counts, int(counts.sum()), k=k, b=b, avg_len=avg_len)
        return weights.astype(np.float32)
