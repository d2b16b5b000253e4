"""
A vector for each patch of a page split into tiles, and for each token of a query: ColModernVBERT.

Source: the model card of ModernVBERT/colmodernvbert; pages are split and described to the
model in the manner of Idefics3, as fastembed has it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import ImageError, ModelFilesError
from fastembed_stream.families.images import Decoding, ImageRecipe, sample_image
from fastembed_stream.families.page_queries import PageQueries, check_pages, real_vectors
from fastembed_stream.families.texts import TextFamily
from fastembed_stream.kinds import LATE_MULTIMODAL
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.pixels import HeldImage, held, path_of
from fastembed_stream.pixels.tiles import WHOLE
from fastembed_stream.tokens import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fastembed_stream.pixels.tiles import Grid
    from fastembed_stream.values import Feeds, Floats, ImageInput, Ints, Outputs

__all__ = ["ColModernVbert", "Pages", "TiledPages", "prompt"]

_AROUND = "<fake_token_around_image>"
_WHOLE = "<global-img>"
_PATCH = "<image>"
"""Stands in the prompt once for each vector that a tile becomes."""

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColModernVbert(ImageRecipe):
    """
    ColModernVBERT: as ColPali, with pages split into tiles in the manner of Idefics3.

    upright     whether a page is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one page, known before it is decoded
    """

    kind: ClassVar = LATE_MULTIMODAL
    files: ClassVar[tuple[str, ...]] = ()

    def open(self, located: LocatedModel) -> OpenModel[ImageInput, str, Floats]:
        """Bind pages and queries to one graph; raise ModelFilesError where a file is missing."""
        tokens, sessions = located.tokens(), located.sessions()
        outputs = sessions[0].outputs[:1]
        edge = _number(located.folder / "config.json", ("vision_config", "image_size"), 512)
        pages = TiledPages(
            decoding=Decoding.open(located, self, sessions, tiled=True),
            text=TextFamily(tokens=tokens, outputs=outputs),
            vectors_per_tile=_number(
                located.folder / "processor_config.json", ("image_seq_len",), 64
            ),
            dim=located.model.dim,
        )
        queries = PageQueries(
            tokens=tokens,
            outputs=outputs,
            suffix="<end_of_utterance>" * 10,
            # The graph leaves out blank tiles, but CUDA cannot reduce a tensor of no tiles at all.
            blank=(1, 3, edge, edge),
            blank_for_each=False,
        )
        check_pages(located, sessions[0], pages, queries)
        documents = OnnxEmbedder(pages, sessions, budget=located.runtime.token_budget)
        return OpenModel(
            documents=documents, queries=documents.with_family(queries), max_tokens=tokens.limit
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """
    Pages whose headers were read.

    rows    one image for each row
    prompt  the tokens that stand for each
    broken  by row, what is wrong with those that cannot be read
    """

    rows: tuple[HeldImage, ...]
    prompt: Reading
    broken: Mapping[int, ImageError] = field(default_factory=dict)

    @property
    def lengths(self) -> Ints:
        """Tell the tokens of each page, int64[n_rows]; nothing for a broken one."""
        return self.prompt.lengths

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        return len(self.rows)

    @property
    def truncated_rows(self) -> int:
        """Count the pages whose prompt lost tokens to the limit."""
        return self.prompt.truncated_rows

    @property
    def truncated_tokens(self) -> int:
        """Count the tokens that were lost."""
        return self.prompt.truncated_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledPages:
    """
    Pages to a vector for each token of a prompt that stands for their tiles.

    decoding          makes the numbers of tiles
    text              the tokenizer, and how prompts are padded
    vectors_per_tile  how many patches the prompt has for each tile
    dim               length of a vector
    """

    decoding: Decoding
    text: TextFamily
    vectors_per_tile: int
    dim: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """Name the outputs of the graph that `finish` takes."""
        return self.text.outputs

    def read(self, rows: Sequence[ImageInput]) -> Pages:
        """Read the headers, which say how each page will be split; one that fails is kept."""
        grids: list[Grid | None] = []
        broken: dict[int, ImageError] = {}
        images: list[HeldImage] = []
        for number, row in enumerate(rows):
            try:
                images.append(held(row))
                grids.append(self.decoding.preprocessing.grid(images[-1]))
            except ImageError as error:
                # Raised by `pack`: whoever counts tokens need not hear of it.
                broken[number] = error.at(number, path_of(row))
                images[number:] = [b""]
                grids.append(None)
        return Pages(rows=tuple(images), prompt=self._prompts(grids), broken=broken)

    def widths(self, reading: Pages) -> Ints:
        """Give each page's own tokens."""
        return reading.lengths

    def sample(self, n_tokens: int) -> Pages:
        """Repeat an ordinary page until there are about so many tokens."""
        [length] = self.read([sample_image()]).lengths
        return self.read([sample_image()] * max(round(n_tokens / int(length)), 1))

    def pack(self, reading: Pages, rows: Ints) -> Feeds:
        """
        Decode and split some pages; one with fewer tiles than others gets blank ones.

        returns  pixel_values float32[batch, tiles, 3, edge, edge];
                 input_ids, attention_mask int64[batch, seq]
        raises   ImageError with the position of the first that cannot be read
        """
        for row in rows.tolist():
            if row in reading.broken:
                raise reading.broken[row]
        tiles = self.decoding.tiles(reading.rows, rows)
        pixels = np.zeros((len(tiles), max(map(len, tiles)), *tiles[0].shape[1:]), np.float32)
        for page, own in zip(pixels, tiles, strict=True):
            page[: len(own)] = own
        return self.text.pack(reading.prompt, rows) | {"pixel_values": pixels}

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """Give float32[n_tokens, dim] for each page, without padding."""
        [vectors] = outputs
        return real_vectors(vectors.reshape(len(vectors), -1, self.dim), feeds["attention_mask"])

    def _prompts(self, grids: Sequence[Grid | None]) -> Reading:
        """Tokenize the prompt of each grid once."""
        by_grid = {
            grid: self.text.read([] if grid is None else [prompt(grid, self.vectors_per_tile)])
            for grid in dict.fromkeys(grids)
        }
        readings = [by_grid[grid] for grid in grids]
        ids = tuple(np.concatenate([_NOTHING, *reading.ids]) for reading in readings)
        return Reading(
            ids=ids,
            lengths=np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)),
            truncated_rows=sum(reading.truncated_rows for reading in readings),
            truncated_tokens=sum(reading.truncated_tokens for reading in readings),
        )


def prompt(grid: Grid, vectors_per_tile: int) -> str:
    """
    Write what the model reads where a page is: a place for each vector of each tile.

    >>> prompt((0, 0), 1).count("<image>"), prompt((2, 1), 1).count("<image>")
    (1, 3)
    """
    patches = _PATCH * vectors_per_tile
    rows = [
        "".join(f"{_AROUND}<row_{row + 1}_col_{column + 1}>{patches}" for column in range(grid[1]))
        + "\n"
        for row in range(grid[0])
    ]
    tiles = "".join(rows) + ("" if grid == WHOLE else "\n")
    return (
        f"<|begin_of_text|>User:{tiles}{_AROUND}{_WHOLE}{patches}{_AROUND}"
        "Describe the image.<end_of_utterance>\nAssistant:"
    )


def _number(path: Path, keys: Sequence[str], default: int) -> int:
    """Read a whole number from a JSON file, a default where it is not told."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            value = value.get(key, {})
    except (OSError, ValueError, AttributeError) as error:
        msg = f"{path} should be a JSON object: {error}. Fetch the model again."
        raise ModelFilesError(msg) from error
    if value == {}:
        return default
    if not isinstance(value, int) or value < 1:
        msg = f"{'.'.join(keys)} in {path} is {value!r}; expected a whole number from 1."
        raise ModelFilesError(msg)
    return value
