"""
Pairs of texts to ragged token ids: a query and a document in one row.

The two are read apart and put together here, so a query is read once for all its documents, and
what a pair costs is bounded by the limit: a tokenizer that cuts pairs by itself builds every
combination of what it has cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.errors import SettingError
from fastembed_stream.rows import checked_pairs
from fastembed_stream.tokens import Reading, Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding

    from fastembed_stream.values import Ints, Pair

__all__ = ["PairReading", "Pairs", "shares"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReading(Reading):
    """
    Pairs as they were read.

    types  one int64[n_tokens] for each row, which of the two texts a token belongs to
    """

    types: tuple[Ints, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """
    The special tokens of a pair, as the tokenizer puts them around two texts.

    ids    int64[n] before, between and after the texts
    types  int64[n + 2], of each special token and of both texts, in the order of the row
    """

    ids: tuple[Ints, Ints, Ints]
    types: Ints

    @classmethod
    def of(cls, example: Encoding) -> _Frame:
        """Take a pair that the tokenizer has put together apart."""
        ids, types = np.array(example.ids, np.int64), np.array(example.type_ids, np.int64)
        texts = [-1 if text is None else text for text in example.sequence_ids]
        first, second = texts.index(0), texts.index(1)
        end_of_first, end_of_second = first + texts.count(0), second + texts.count(1)
        frame = (ids[:first], ids[end_of_first:second], ids[end_of_second:])
        of_texts = [*range(first + 1), *range(end_of_first, second + 1)]
        return cls(frame, types[[*of_texts, *range(end_of_second, len(ids))]])

    @property
    def size(self) -> int:
        """Count the special tokens."""
        return sum(map(len, self.ids))

    def around(self, first: Ints, second: Ints) -> tuple[Ints, Ints]:
        """Give the ids and the types of a row."""
        before, between, after = self.ids
        repeats = np.ones(len(self.types), dtype=np.int64)
        repeats[len(before)] = len(first)
        repeats[len(before) + 1 + len(between)] = len(second)
        ids = np.concatenate((before, first, between, second, after))
        return ids, np.repeat(self.types, repeats)


class Pairs:
    """One model's tokenizer, for pairs; the limit is for both texts together."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._frame = _Frame.of(tokens.pair_example())
        self._room = tokens.limit - self._frame.size

    @classmethod
    def of(cls, tokens: Tokens, *, model_name: str) -> Pairs:
        """Read pairs with a tokenizer; SettingError where its limit leaves no room for two."""
        n_special = tokens.n_special_of_pair
        if tokens.limit < n_special + 2:
            msg = (
                f"A limit of {tokens.limit} tokens for {model_name!r} leaves no room for a pair: "
                f"each has {n_special} special tokens. Pass max_tokens= of {n_special + 2} or more."
            )
            raise SettingError(msg)
        return cls(tokens)

    def read(self, pairs: Sequence[Pair]) -> PairReading:
        """
        Turn pairs into token ids, each pair cut to the limit.

        Of a pair that is too long the longer text is cut first, down to the other's length, then
        both alike.

        raises  RowError for what is no pair of texts
        """
        pairs = checked_pairs(pairs)
        texts = list(dict.fromkeys(chain.from_iterable(pairs)))
        pieces = dict(zip(texts, self._tokens.pieces(texts), strict=True))
        rows, lost = [], []
        for query, document in pairs:
            (first, n_first), (second, n_second) = pieces[query], pieces[document]
            here, there = shares(n_first, n_second, self._room)
            rows.append(self._frame.around(self._cut(first, here), self._cut(second, there)))
            lost.append(n_first + n_second - here - there)
        return PairReading(
            ids=tuple(ids for ids, _ in rows),
            types=tuple(types for _, types in rows),
            lengths=np.fromiter((len(ids) for ids, _ in rows), dtype=np.int64, count=len(rows)),
            truncated_rows=sum(count > 0 for count in lost),
            truncated_tokens=sum(lost),
        )

    def _cut(self, ids: Ints, n: int) -> Ints:
        return ids[:n] if self._tokens.cuts_right else ids[len(ids) - n :]


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """
    Share out the room between two texts: the longer is cut first ("longest first").

    first, second  tokens of each text
    room           most tokens of both
    returns        tokens that each may keep

    >>> shares(3, 20, 12), shares(20, 3, 12), shares(20, 30, 13), shares(3, 4, 12)
    ((3, 9), (9, 3), (6, 7), (3, 4))
    """
    if first + second <= room:
        return first, second
    short = min(first, second, room // 2)
    return (room - short, short) if first > second else (short, room - short)
