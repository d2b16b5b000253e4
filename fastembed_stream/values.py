"""Values that cross borders; the shapes of arrays stand in the docstrings that use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import os

    from PIL import Image

__all__ = [
    "Array",
    "Feeds",
    "Floats",
    "ImageFile",
    "ImageInput",
    "Ints",
    "Outputs",
    "Pair",
    "SparseEmbedding",
]

Floats: TypeAlias = NDArray[np.float32]
"""float32 arrays: hidden states, vectors."""

Ints: TypeAlias = NDArray[np.int64]
"""int64 arrays: token ids, masks, lengths."""

Array: TypeAlias = NDArray[Any]
"""Arrays of whichever type a graph's input has."""

Feeds: TypeAlias = dict[str, Array]
"""What goes into a session, by input name."""

Outputs: TypeAlias = list[Floats]
"""What comes out of a session, in the order asked for."""

Pair: TypeAlias = tuple[str, str]
"""A query and a document, to be scored together."""


class ImageFile(Protocol):
    """An open file in binary mode, BytesIO, or what else gives bytes when it is read."""

    def read(self, size: int = ..., /) -> bytes:
        """Give the bytes from where it stands."""


ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | ImageFile | Image.Image"
)
"""
An image: a path, the bytes of a file, an open file, base64 text, or one that Pillow opened.

An open file is read from its beginning, stays open, and is left where it stood.

Text that starts with `data:` is a data URL; text of nothing but base64 characters that starts as a
JPEG, PNG, GIF, WebP or TIFF file does in base64 is that file; all other text is a path.
"""


@dataclass(frozen=True, slots=True, eq=False)
class SparseEmbedding:
    """
    A vector that is zero almost everywhere.

    values   float32[n], none of them zero
    indices  int64[n], which dimension each value belongs to, each once

    >>> SparseEmbedding.from_dict({7: 0.5, 3: 2.0}).as_dict()
    {7: 0.5, 3: 2.0}
    """

    values: Floats
    indices: Ints

    @classmethod
    def from_dict(cls, data: Mapping[int, float]) -> SparseEmbedding:
        """Make one from values by dimension, in their order."""
        return cls(
            values=np.fromiter(data.values(), dtype=np.float32, count=len(data)),
            indices=np.fromiter(data.keys(), dtype=np.int64, count=len(data)),
        )

    def as_object(self) -> dict[str, Array]:
        """Give both arrays by name, as Qdrant's REST API has them."""
        return {"values": self.values, "indices": self.indices}

    def as_dict(self) -> dict[int, float]:
        """Give the values by dimension."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))
