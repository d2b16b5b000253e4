"""A page as tiles of one size and a view of the whole, in the manner of Idefics3."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL import Image

    from fastembed_stream.pixels.steps import Size

__all__ = ["WHOLE", "Grid", "Tiling"]

Grid: TypeAlias = tuple[int, int]
"""Rows and columns of tiles."""

WHOLE: Grid = (0, 0)
"""The grid of a page that is one tile, without a view of the whole beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """
    How pages are split.

    edge      of a tile, in pixels
    resample  Pillow's number of the filter, 0 to 5
    split     whether pages are split at all, or squeezed into one tile

    >>> Tiling(edge=512, resample=1, split=True).grid((2048, 1540))
    (4, 4)
    """

    edge: int
    resample: int
    split: bool

    def grid(self, size: Size) -> Grid:
        """Tell how a page of a size is split."""
        width, height = self.size(size)
        rows, columns = height // self.edge, width // self.edge
        return WHOLE if rows == columns == 1 else (rows, columns)

    def size(self, size: Size) -> Size:
        """Tell the size before the split: whole tiles, the longer edge rounded up first."""
        if not self.split:
            return self.edge, self.edge
        width, height = size
        ratio = width / height
        if width >= height:
            width = self._whole_tiles(width)
            height = self._whole_tiles(int(width / ratio))
        else:
            height = self._whole_tiles(height)
            width = self._whole_tiles(int(height * ratio))
        return width, height

    def n_tiles(self, grid: Grid) -> int:
        """Count the tiles, the view of the whole among them."""
        return grid[0] * grid[1] + 1

    def __call__(self, image: Image.Image) -> list[Image.Image]:
        """Give the tiles row by row, and last the whole."""
        page = image.resize(self.size(image.size), self.resample)
        rows, columns = self.grid(image.size)
        if (rows, columns) == WHOLE:
            return [page]
        edge = self.edge
        tiles = [
            page.crop((column * edge, row * edge, (column + 1) * edge, (row + 1) * edge))
            for row in range(rows)
            for column in range(columns)
        ]
        return [*tiles, page.resize((edge, edge), self.resample)]

    def _whole_tiles(self, length: int) -> int:
        return math.ceil(length / self.edge) * self.edge
