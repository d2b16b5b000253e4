"""How images go into a graph: what all families over images share."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.devices import available_cores
from fastembed_stream.errors import ImageError, ModelFilesError, SettingError
from fastembed_stream.pixels import HeldImage, ImageReader, Preprocessing, held, path_of
from fastembed_stream.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image

    from fastembed_stream.located_model import LocatedModel
    from fastembed_stream.session import Session
    from fastembed_stream.values import Floats, ImageInput, Ints

__all__ = [
    "TOKENS_PER_IMAGE",
    "Decoding",
    "ImageFamily",
    "ImageRecipe",
    "Images",
    "sample_image",
    "white_image",
]

TOKENS_PER_IMAGE = 128
"""
What one image counts for in a token budget: two share a group of the default size, which is a
little faster than one alone.
"""

_ALONE = 1 << 20
"""More tokens than any budget has: such a row shares its group with no other."""

_SAMPLE_SIZE = (800, 600)
_SMALL_SIZE = (64, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """
    What the recipes of images share: how image files are read, whatever comes of them.

    upright     whether an image is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one image, known before it is decoded: 89 million, which is where
                Pillow starts to warn
    """

    upright: bool = False
    max_pixels: int = 89_478_485

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            msg = f"`max_pixels` must be at least 1; got {self.max_pixels}."
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """
    Images as they came, to be opened on the lanes.

    rows        one for each row
    row_tokens  what each counts for
    """

    rows: tuple[HeldImage, ...]
    row_tokens: int = TOKENS_PER_IMAGE

    @property
    def lengths(self) -> Ints:
        """Give the same number for each row, int64[n_rows]."""
        return np.full(len(self.rows), self.row_tokens, dtype=np.int64)

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        return len(self.rows)

    @property
    def truncated_rows(self) -> int:
        """Nothing of an image is cut off by a limit."""
        return 0

    @property
    def truncated_tokens(self) -> int:
        """Nothing of an image is cut off by a limit."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """
    Images of a group to numbers, on the lane that runs the group or on threads of their own.

    preprocessing  makes the numbers of one image
    threads        decode the images of a group at once; None where the lanes do, being many
    """

    preprocessing: Preprocessing
    threads: Threads | None = None

    @classmethod
    def open(
        cls, located: LocatedModel, recipe: ImageRecipe, sessions: Sequence[Session], *, tiled: bool
    ) -> Decoding:
        """
        Read how images become numbers, and start threads where lanes are fewer than cores.

        tiled   whether the graph takes tiles
        raises  ModelFilesError where preprocessor_config.json is missing or means other images
        """
        reader = ImageReader(upright=recipe.upright, max_pixels=recipe.max_pixels)
        preprocessing = Preprocessing.open(located.folder, reader)
        if (preprocessing.tiling is not None) is not tiled:
            splits = "does not split" if tiled else "splits"
            msg = (
                f"preprocessor_config.json in {located.folder} {splits} images into tiles, but "
                f"{located.model.name!r} has a {type(recipe).__name__} recipe. Choose another."
            )
            raise ModelFilesError(msg)
        n_threads = located.runtime.threads or available_cores()
        few_lanes = sum(session.lanes for session in sessions) < n_threads
        threads = Threads(n_threads, "decoder") if few_lanes else None
        return cls(preprocessing=preprocessing, threads=threads)

    def pixels(self, images: Sequence[ImageInput], rows: Ints) -> list[Floats]:
        """
        Make the numbers of some images.

        returns  float32[3, height, width] for each row
        raises   ImageError with the position of the first that cannot be read
        """
        return self._made(self.preprocessing.pixels, images, rows)

    def tiles(self, images: Sequence[ImageInput], rows: Ints) -> list[Floats]:
        """
        Make the numbers of some pages' tiles.

        returns  float32[n_tiles, 3, edge, edge] for each row
        raises   as `pixels`
        """
        return self._made(self.preprocessing.tiles, images, rows)

    def _made(
        self, make: Callable[[ImageInput], Floats], images: Sequence[ImageInput], rows: Ints
    ) -> list[Floats]:
        def of_row(row: int) -> Floats:
            try:
                return make(images[row])
            except ImageError as error:
                raise error.at(row, path_of(images[row])) from error.__cause__

        numbers = rows.tolist()
        if self.threads is None or len(numbers) == 1:
            return [of_row(row) for row in numbers]
        decoding = [self.threads.submit(of_row, row) for row in numbers]
        return [each.result() for each in decoding]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFamily:
    """
    Images to pixels; a family over images adds `pack` and `finish`.

    decoding    makes the numbers of images
    outputs     names of the graph's outputs that `finish` takes
    row_tokens  what an image counts for in a token budget
    """

    decoding: Decoding
    outputs: tuple[str, ...]
    row_tokens: int = TOKENS_PER_IMAGE

    def read(self, rows: Sequence[ImageInput]) -> Images:
        """
        Keep the images: they are decoded on the lanes, while others are inferred.

        raises  ImageError with the position of the first file that cannot be read
        """
        images: list[HeldImage] = []
        for position, row in enumerate(rows):
            try:
                images.append(held(row))
            except ImageError as error:
                raise error.at(position) from error.__cause__
        return Images(rows=tuple(images), row_tokens=self.row_tokens)

    def widths(self, reading: Images) -> Ints:
        """Give what each image costs; images that become of unlike size cannot share a group."""
        return np.full_like(reading.lengths, self._width)

    def sample(self, n_tokens: int) -> Images:
        """Repeat an ordinary photograph until there are about so many tokens."""
        return self.read([sample_image()] * max(round(n_tokens / self._width), 1))

    @property
    def _width(self) -> int:
        return self.row_tokens if self.decoding.preprocessing.gives_one_size else _ALONE

    def pixels(self, reading: Images, rows: Ints) -> Floats:
        """Decode some images to float32[batch, 3, height, width]; raise as `Decoding.pixels`."""
        return np.stack(self.decoding.pixels(reading.rows, rows))


@functools.cache
def sample_image() -> bytes:
    """Make a JPEG file of ordinary size with as much detail as a photograph has."""
    from PIL import Image

    random = np.random.default_rng(0)
    small = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    smooth = Image.fromarray(small).resize(_SAMPLE_SIZE, Image.Resampling.BICUBIC)
    smooth.save(file, "JPEG", quality=85)
    return file.getvalue()


def white_image() -> Image.Image:
    """Make an image that is quickly made into numbers, to try a graph with."""
    from PIL import Image

    return Image.new("RGB", _SMALL_SIZE, "white")
