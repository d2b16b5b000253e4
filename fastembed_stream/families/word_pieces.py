"""Word pieces put together to words again, as BM42 and MiniCOIL need them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastembed_stream.tokens import Tokens
    from fastembed_stream.values import Ints

__all__ = ["WordPieces"]

_CONTINUES = "##"
"""What WordPiece puts before a piece that is not the first of its word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPieces:
    """
    The vocabulary of a tokenizer, by id.

    pieces     what each id says, without the mark of a continuation
    continues  bool[vocabulary], whether an id goes on with the word before it
    special    bool[vocabulary], whether it is a special token such as [CLS]
    """

    pieces: tuple[str, ...]
    continues: NDArray[np.bool_]
    special: NDArray[np.bool_]

    @classmethod
    def of(cls, tokens: Tokens) -> WordPieces:
        """Read the vocabulary of a tokenizer."""
        vocabulary = tokens.vocabulary
        pieces = [""] * (max(vocabulary.values()) + 1)
        for piece, number in vocabulary.items():
            pieces[number] = piece
        special = np.zeros(len(pieces), dtype=np.bool_)
        special[tokens.special_ids] = True
        return cls(
            pieces=tuple(piece.removeprefix(_CONTINUES) for piece in pieces),
            continues=np.array([piece.startswith(_CONTINUES) for piece in pieces], dtype=np.bool_),
            special=special,
        )

    def words(self, ids: Ints) -> tuple[list[str], Ints]:
        """
        Give the words of a row, and where each of them starts.

        ids      int64[n_tokens]
        returns  n_words texts, int64[n_words] ascending positions in `ids`
        """
        is_start = ~self.continues[ids]
        is_start[:1] = True
        starts = np.flatnonzero(is_start)
        pieces = [self.pieces[number] for number in ids.tolist()]
        if len(starts) == len(pieces):
            return pieces, starts
        bounds = pairwise([*starts.tolist(), len(pieces)])
        return ["".join(pieces[start:end]) for start, end in bounds], starts
