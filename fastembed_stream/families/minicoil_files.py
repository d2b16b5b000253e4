"""What a MiniCOIL model has beside its graph: a vocabulary, and the meanings of its words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mmh3
import numpy as np

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.words import Remembered, is_punctuation, snowball, stop_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fastembed_stream.values import Floats, Ints
    from fastembed_stream.words import Stemmer

__all__ = ["Lexicon", "Meanings"]

_MEANINGS = "minicoil.triplet.model.npy"
_VOCABULARY = "minicoil.triplet.model.vocab"
_STOP_WORDS = "stopwords.txt"

_SPECIAL = frozenset({"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"})
_SIGNS = re.compile(r"[^\w\s]")
_LONGEST_STEM = 40
_GAP = 32_000
"""Unknown words start above the known ones, at a multiple of this, one further."""
_MOST_DIMENSIONS = 2**31 - 1


class Lexicon:
    """
    Words to their numbers, and to their dimensions where they have no number.

    names         words by number; number 0 is no word
    number_of     0 where a word is unknown or a stop word
    parts_of      stems that an unknown word is counted as; none for what is left out
    dimension_of  for the stems of unknown words, above all dimensions of known words
    """

    def __init__(
        self,
        names: list[str],
        stems: Mapping[str, str],
        *,
        stop_words: frozenset[str],
        stemmer: Stemmer,
        dim: int,
    ) -> None:
        self.names = ("", *names)
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self._stems = stems
        self._stop_words = stop_words
        self._left_out = stop_words | _SPECIAL
        self._stemmer = stemmer
        self._above = (len(self.names) * dim // _GAP + 2) * _GAP
        self.number_of: Remembered[int] = Remembered(self._number)
        self.parts_of: Remembered[tuple[str, ...]] = Remembered(self._parts)
        self.dimension_of: Remembered[int] = Remembered(self._dimension)

    @classmethod
    def open(cls, folder: Path, *, language: str, dim: int) -> Lexicon:
        """Read vocabulary and stop words of a model folder; ModelFilesError where they are not."""
        path = folder / _VOCABULARY
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            names, stems = list(stored["vocab"]), dict(stored["stem_mapping"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{path} should be JSON with 'vocab' and 'stem_mapping': {error}. Fetch it again."
            raise ModelFilesError(msg) from error
        if strange := set(stems.values()) - set(names):
            msg = f"{path}: stems stand for words that 'vocab' lacks: {sorted(strange)[:5]}."
            raise ModelFilesError(msg)
        return cls(
            names,
            stems,
            stop_words=stop_words(folder / _STOP_WORDS),
            stemmer=snowball(language),
            dim=dim,
        )

    def _number(self, word: str) -> int:
        if word in self._stop_words:
            return 0
        if word in self._numbers:
            return self._numbers[word]
        # Looked up as a stem itself first, then by its stem.
        name = self._stems.get(word) or self._stems.get(self._stemmer.stem_word(word))
        return 0 if name is None else self._numbers[name]

    def _parts(self, word: str) -> tuple[str, ...]:
        if self._is_left_out(word):
            return ()
        stems = map(self._stemmer.stem_word, _SIGNS.sub(" ", word).split())
        return tuple(s for s in stems if len(s) <= _LONGEST_STEM and not self._is_left_out(s))

    def _dimension(self, stem: str) -> int:
        # Folded into what is left of 31 bits, so two words in about two thousand million may meet.
        return self._above + abs(mmh3.hash(stem)) % (_MOST_DIMENSIONS - self._above)

    def _is_left_out(self, word: str) -> bool:
        return word in self._left_out or is_punctuation(word)


@dataclass(frozen=True, slots=True, eq=False)
class Meanings:
    """
    The matrix of each word.

    matrices  float32[n_words + 1, dim_of_hidden, dim], by number
    """

    matrices: Floats

    @classmethod
    def open(cls, folder: Path) -> Meanings:
        """
        Map the matrices of a model folder; only those of words in use are read.

        raises  ModelFilesError where there are none
        """
        path = folder / _MEANINGS
        try:
            matrices = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            msg = f"{path} should hold one matrix a word: {error}. Fetch it again."
            raise ModelFilesError(msg) from error
        if matrices.ndim != 3:  # noqa: PLR2004
            msg = f"{path} should have 3 axes (word, hidden, meaning); it has {matrices.shape}."
            raise ModelFilesError(msg)
        return cls(matrices)

    @property
    def dim(self) -> int:
        """Tell how many numbers stand for the meaning of a word."""
        return int(self.matrices.shape[2])

    def of(self, wanted: Ints, of_token: Ints, vectors: Floats) -> Floats:
        """
        Give the meanings of some words in one row.

        wanted    int64[n], numbers of words, ascending
        of_token  int64[n_tokens], the number of the word that each token belongs to
        vectors   float[n_tokens, dim_of_hidden]
        returns   float32[n, dim], each of length one
        """
        if not len(wanted):
            return np.zeros((0, self.dim), dtype=np.float32)
        tokens = np.flatnonzero(np.isin(of_token, wanted))
        tokens = tokens[np.argsort(of_token[tokens], kind="stable")]
        starts = np.searchsorted(of_token[tokens], wanted)
        summed = np.add.reduceat(vectors[tokens].astype(np.float32, copy=False), starts)
        averaged = summed / np.diff([*starts, len(tokens)])[:, None].astype(np.float32)
        meant: Floats = np.tanh(np.einsum("ni,nid->nd", averaged, self.matrices[wanted]))
        norm = np.linalg.norm(meant, axis=1, keepdims=True)
        unit: Floats = meant / np.where(norm < _SMALLEST_NORM, np.float32(1), norm)
        return unit


_SMALLEST_NORM = np.float32(1e-8)
"""Below it a meaning stays as it is."""
