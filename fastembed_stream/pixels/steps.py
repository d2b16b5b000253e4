"""
Steps from an image to another: resizing, cropping, filling up to a square.

Each step tells the size that it gives without an image, so that a size nobody has room for is
refused before anything is decoded. Sizes are (width, height) in pixels, as Pillow has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CenterCrop", "Fill", "LongestEdge", "Resize", "ShortestEdge", "Size", "Step"]

Size: TypeAlias = tuple[int, int]


class Step(Protocol):
    """
    From an image to another.

    gives_one_size  whether all images leave with the same size
    """

    gives_one_size: ClassVar[bool]

    def size(self, size: Size) -> Size:
        """Tell the size of what comes out."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Make what comes out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """
    Resize to a width and a height.

    resample  Pillow's number of the filter, 0 to 5
    """

    gives_one_size: ClassVar = True

    width: int
    height: int
    resample: int

    def size(self, size: Size) -> Size:
        """Give the width and height wanted."""
        del size
        return self.width, self.height

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize."""
        return image.resize((self.width, self.height), self.resample)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortestEdge:
    """
    Resize the shorter edge to a length, the other in proportion, cut to whole pixels.

    >>> ShortestEdge(edge=224, resample=3).size((640, 480))
    (298, 224)
    """

    gives_one_size: ClassVar = False

    edge: int
    resample: int

    def size(self, size: Size) -> Size:
        """Keep the proportion."""
        width, height = size
        longer = int(self.edge * max(size) / min(size))
        return (self.edge, longer) if width <= height else (longer, self.edge)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize."""
        return image.resize(self.size(image.size), self.resample)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongestEdge:
    """
    Resize the longer edge to a length, the other in proportion, both then up to even numbers.

    Source: Idefics3, as fastembed has it.

    >>> LongestEdge(edge=2048, resample=1).size((640, 481))
    (2048, 1540)
    """

    gives_one_size: ClassVar = False

    edge: int
    resample: int

    def size(self, size: Size) -> Size:
        """Keep the proportion, roughly."""
        width, height = size
        ratio = width / height
        if width >= height:
            wanted = self.edge, int(self.edge / ratio)
        else:
            wanted = int(self.edge * ratio), self.edge
        even_width, even_height = (length + length % 2 for length in wanted)
        return max(even_width, 1), max(even_height, 1)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize."""
        return image.resize(self.size(image.size), self.resample)


@dataclass(frozen=True, slots=True, kw_only=True)
class CenterCrop:
    """Cut out the middle; what is missing around a smaller image is black."""

    gives_one_size: ClassVar = True

    width: int
    height: int

    def size(self, size: Size) -> Size:
        """Give the width and height wanted."""
        del size
        return self.width, self.height

    def __call__(self, image: Image.Image) -> Image.Image:
        """Crop; Pillow fills what lies outside with zeros."""
        left, top = (image.width - self.width) // 2, (image.height - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """
    Cut the middle out of what is too large, and put it top left on a coloured square.

    Source: Jina CLIP, whose crop rounds a half to the even number.

    color  of the square: a number, a name, or one number for each channel
    """

    gives_one_size: ClassVar = True

    edge: int
    color: int | str | tuple[int, ...]

    def size(self, size: Size) -> Size:
        """Give the square's."""
        del size
        return self.edge, self.edge

    def __call__(self, image: Image.Image) -> Image.Image:
        """Crop and fill."""
        from PIL import Image

        left, top = (round(max(length - self.edge, 0) / 2) for length in image.size)
        right, bottom = min(left + self.edge, image.width), min(top + self.edge, image.height)
        square = Image.new("RGB", (self.edge, self.edge), self.color)
        square.paste(image.crop((left, top, right, bottom)))
        return square
