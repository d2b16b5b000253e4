"""
Resizing and cropping in one go, without computing what the crop throws away.

Where the proportion stays, Pillow resizes rows first, then columns, and rounds to eight bits
between the two. So the rows that the crop cannot see need not be resized at all, and of the
columns only those that stay: every pixel that is left is the same to the bit, for less work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fastembed_stream.pixels.steps import CenterCrop, ShortestEdge, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image

__all__ = ["ResizedMiddle", "fused"]

Change: TypeAlias = "Callable[[Image.Image], Image.Image]"

_REACH = {1: 3.0, 2: 1.0, 3: 2.0, 4: 0.5, 5: 1.0}
"""How far Pillow's filters reach, in pixels of the smaller image; 0, the nearest, has none."""

_HIGHEST = 1.9
"""Of an image that is twice as high as wide Pillow resizes the columns first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizedMiddle:
    """
    Give the middle of a resized image.

    resize  to the size that is cropped
    crop    what is cut out of it
    """

    resize: ShortestEdge
    crop: CenterCrop

    def __call__(self, image: Image.Image) -> Image.Image:
        """Make what `crop` would of what `resize` gives."""
        width, height = self.resize.size(image.size)
        left, top = (width - self.crop.width) // 2, (height - self.crop.height) // 2
        reach = _REACH.get(self.resize.resample)
        if left < 0 or top < 0 or reach is None or image.height > _HIGHEST * image.width:
            return self.crop(self.resize(image))
        first, last = _rows_seen(image.height, height, reach, top, top + self.crop.height)
        strip = image.crop((0, first, image.width, last))
        strip = strip.resize((width, strip.height), self.resize.resample)
        strip = strip.crop((left, 0, left + self.crop.width, strip.height))
        # As high as the image was: where a row ends up is a matter of the whole height.
        column = strip if strip.height == image.height else _placed(strip, image.height, first)
        column = column.resize((self.crop.width, height), self.resize.resample)
        return column.crop((0, top, self.crop.width, top + self.crop.height))


def fused(steps: Sequence[Step]) -> tuple[Change, ...]:
    """Give changes that make the same of an image as the steps, some of them at once."""
    changes: list[Change] = []
    for step in steps:
        before = changes[-1] if changes else None
        if isinstance(step, CenterCrop) and isinstance(before, ShortestEdge):
            changes[-1] = ResizedMiddle(resize=before, crop=step)
        else:
            changes.append(step)
    return tuple(changes)


def _rows_seen(n_rows: int, height: int, reach: float, top: int, bottom: int) -> tuple[int, int]:
    """Tell which rows of an image the rows `top` to `bottom` of the resized one are made of."""
    scale = n_rows / height
    far = reach * max(scale, 1) + 1
    first = math.floor((top + 0.5) * scale - far)
    last = math.ceil((bottom - 0.5) * scale + far)
    return max(first, 0), min(last, n_rows)


def _placed(strip: Image.Image, height: int, first: int) -> Image.Image:
    from PIL import Image

    whole = Image.new(strip.mode, (strip.width, height))
    whole.paste(strip, (0, first))
    return whole
