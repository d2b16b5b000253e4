"""
A vector for each patch of a page, and for each token of a query: ColPali.

Source: ColPali, https://arxiv.org/abs/2407.01449; the tokens are those of PaliGemma's processor,
as fastembed has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.families.images import Decoding, ImageFamily, ImageRecipe, Images
from fastembed_stream.families.page_queries import PageQueries, check_pages
from fastembed_stream.kinds import LATE_MULTIMODAL
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder

if TYPE_CHECKING:
    from fastembed_stream.values import Feeds, Floats, ImageInput, Ints, Outputs

__all__ = ["ColPali", "ColPaliPages"]

_N_PATCHES = 1024
_IMAGE_TOKEN = 257_152
_DESCRIBE_THE_IMAGE = (2, 50_721, 573, 2416, 235_265, 108)
"""PaliGemma's tokens of '<bos>Describe the image.' and a line break."""

_PAGE_TOKENS = np.array([_IMAGE_TOKEN] * _N_PATCHES + [*_DESCRIBE_THE_IMAGE], dtype=np.int64)

_BLANK = (3, 448, 448)
_QUERY_BEGINS = (2, 5098)
"""PaliGemma's <bos>, and the token that queries were trained to start with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColPali(ImageRecipe):
    """
    ColPali: a vector for each patch of a page and for each token of a query.

    upright     whether a page is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one page, known before it is decoded
    """

    kind: ClassVar = LATE_MULTIMODAL
    files: ClassVar[tuple[str, ...]] = ()

    def open(self, located: LocatedModel) -> OpenModel[ImageInput, str, Floats]:
        """Bind pages and queries to one graph; raise ModelFilesError where a file is missing."""
        tokens, sessions = located.tokens(), located.sessions()
        outputs = sessions[0].outputs[:1]
        pages = ColPaliPages(
            decoding=Decoding.open(located, self, sessions, tiled=False),
            outputs=outputs,
            row_tokens=len(_PAGE_TOKENS),
            dim=located.model.dim,
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
        check_pages(located, sessions[0], pages, queries)
        documents = OnnxEmbedder(pages, sessions, budget=located.runtime.token_budget)
        return OpenModel(
            documents=documents, queries=documents.with_family(queries), max_tokens=tokens.limit
        )


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
