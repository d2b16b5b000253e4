"""Questions about pages: how texts go into a graph that also takes images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from fastembed_stream.families.images import white_image
from fastembed_stream.families.texts import TextFamily
from fastembed_stream.graphs import check_graph, of_each_token
from fastembed_stream.rows import checked_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.located_model import LocatedModel
    from fastembed_stream.onnx_embedder import Family
    from fastembed_stream.session import Session
    from fastembed_stream.tokens import Reading
    from fastembed_stream.values import Feeds, Floats, ImageInput, Ints, Outputs

__all__ = ["PageQueries", "check_pages", "real_vectors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQueries(TextFamily):
    """
    Queries to a vector for each token.

    prefix, suffix    put around each text before it is tokenized
    first_ids         token ids that stand instead of as many first ones
    blank             shape of the pixels that stand for no image
    blank_for_each    whether each text comes with such pixels, or one for a whole group
    blank_tokens      what the pixels of one text cost in a token budget
    """

    prefix: str = ""
    suffix: str = ""
    first_ids: tuple[int, ...] = ()
    blank: tuple[int, ...]
    blank_for_each: bool
    blank_tokens: int = 0

    def bare(self) -> PageQueries:
        """Give the family that adds nothing to a text, to count its own tokens."""
        return replace(self, prefix="", suffix="", first_ids=())

    @override
    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids, with what the model wants around them."""
        texts = [self.prefix + row + self.suffix for row in checked_texts(rows)]
        reading = self.tokens.read(texts)
        if not self.first_ids:
            return reading
        first = np.array(self.first_ids, dtype=np.int64)
        ids = tuple(np.concatenate([first, row[len(first) :]]) for row in reading.ids)
        return replace(reading, ids=ids)

    @override
    def widths(self, reading: Reading) -> Ints:
        """Give each row's own tokens, and those of the pixels that come with it."""
        return reading.lengths + self.blank_tokens

    @override
    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """
        Pad some rows to the longest of them.

        returns  as `TextFamily.pack`; pixel_values float32 of the blank's shape, zero
        """
        feeds = TextFamily.pack(self, reading, rows)
        n_blanks = len(rows) if self.blank_for_each else 1
        feeds["pixel_values"] = np.zeros((n_blanks, *self.blank), dtype=np.float32)
        return feeds

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """
        Leave out the padding.

        returns  one float32[n_tokens, dim] for each row
        """
        [vectors] = outputs
        return real_vectors(vectors, feeds["attention_mask"])


def check_pages(
    located: LocatedModel,
    session: Session,
    pages: Family[ImageInput, Any, Floats],
    queries: PageQueries,
) -> None:
    """
    Refuse a graph that does not take pages and queries; none of them is run, which takes seconds.

    raises  SettingError
    """
    expected = of_each_token(located.model.dim)
    tried: Sequence[tuple[Family[Any, Any, Floats], object]] = (
        (pages, white_image()),
        (queries, "a"),
    )
    for family, row in tried:
        check_graph(located, session, family, expected, row=row, of_one_size=False, runs=False)


def real_vectors(vectors: Floats, mask: Ints) -> list[Floats]:
    """
    Leave out the padding of each row.

    vectors  float[batch, seq, dim]
    mask     int64[batch, seq], 1 on real tokens
    returns  one float32[n_tokens, dim] for each row, a copy of its own

    >>> [row.tolist() for row in real_vectors(np.float32([[[1], [2]]]), np.int64([[0, 1]]))]
    [[[2.0]]]
    """
    single = vectors.astype(np.float32, copy=False)
    return [row[real] for row, real in zip(single, mask.astype(bool), strict=True)]
