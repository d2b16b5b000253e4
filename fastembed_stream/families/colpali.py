"""
A vector for each patch of a page, and for each token of a query: ColPali.

Source: ColPali, https://arxiv.org/abs/2407.01449; the tokens are those of PaliGemma's processor,
as fastembed has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.embedder import Embedder
from fastembed_stream.families.images import Decoding, ImageFamily, Images
from fastembed_stream.families.page_queries import PageQueries, check_pages
from fastembed_stream.opened import Opening, OpenModel

if TYPE_CHECKING:
    from fastembed_stream.recipes import ColPali
    from fastembed_stream.values import Feeds, Floats, ImageInput, Ints, Outputs

__all__ = ["ColPaliPages", "open_colpali"]

_N_PATCHES = 1024
_IMAGE_TOKEN = 257_152
_DESCRIBE_THE_IMAGE = (2, 50_721, 573, 2416, 235_265, 108)
"""PaliGemma's tokens of '<bos>Describe the image.' and a line break."""

_PAGE_TOKENS = np.array([_IMAGE_TOKEN] * _N_PATCHES + [*_DESCRIBE_THE_IMAGE], dtype=np.int64)

_BLANK = (3, 448, 448)
_QUERY_BEGINS = (2, 5098)
"""PaliGemma's <bos>, and the token that queries were trained to start with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColPaliPages(ImageFamily):
    """
    Pages to a vector for each token of a fixed prompt: the patches, and a few words.

    dim  length of a vector
    """

    dim: int

    def pack(self, reading: Images, rows: Ints) -> Feeds:
        """
        Decode some pages.

        returns  pixel_values float32[batch, 3, height, width];
                 input_ids, attention_mask int64[batch, 1030], the same in each row
        """
        ids = np.tile(_PAGE_TOKENS, (len(rows), 1))
        return {
            "pixel_values": self.pixels(reading, rows),
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
        }

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """Give float32[n_tokens, dim] for each page."""
        del feeds
        [vectors] = outputs
        return list(vectors.astype(np.float32, copy=False).reshape(len(vectors), -1, self.dim))


def open_colpali(opening: Opening, recipe: ColPali) -> OpenModel[ImageInput, str, Floats]:
    """Bind pages and queries to one graph; raise ModelFilesError where a file is missing."""
    tokens, sessions = opening.tokens(), opening.sessions()
    outputs = sessions[0].outputs[:1]
    pages = ColPaliPages(
        decoding=Decoding.open(opening, recipe, sessions, tiled=False),
        outputs=outputs,
        row_tokens=len(_PAGE_TOKENS),
        dim=opening.model.dim,
    )
    queries = PageQueries(
        tokens=tokens,
        outputs=outputs,
        prefix="<s>Query: ",
        suffix="<pad>" * 10 + "\n",
        first_ids=_QUERY_BEGINS,
        blank=_BLANK,
        blank_for_each=True,
        blank_tokens=_N_PATCHES,
    )
    check_pages(opening, sessions[0], pages, queries)
    documents = Embedder(pages, sessions, budget=opening.runtime.token_budget)
    return OpenModel(
        documents=documents, queries=documents.with_family(queries), max_tokens=tokens.limit
    )
