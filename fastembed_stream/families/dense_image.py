"""One vector for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from typing_extensions import override

from fastembed_stream.embedder import OpenModel
from fastembed_stream.families.images import Decoding, ImageFamily, ImageRecipe, Images, white_image
from fastembed_stream.families.texts import output_name
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.kinds import IMAGE
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.pooling import check_pooling, normalized

if TYPE_CHECKING:
    from fastembed_stream.values import Feeds, Floats, ImageInput, Ints, Outputs

__all__ = ["DenseImage", "DenseImageFamily"]

ImagePooling: TypeAlias = Literal["none", "cls"]
"""How vectors of patches become one: already done, or the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseImage(ImageRecipe):
    """
    One vector for each image; how pixels are made stands in preprocessor_config.json.

    pooling     'none' where the graph pools by itself, 'cls' for the first patch
    normalize   whether vectors leave with length one
    output      which output of the graph holds the vectors: a name, or a position
    upright     whether an image is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one image, known before it is decoded
    """

    kind: ClassVar = IMAGE
    files: ClassVar[tuple[str, ...]] = ()

    pooling: ImagePooling = "none"
    normalize: bool = True
    output: str | int = 0

    @override
    def __post_init__(self) -> None:
        ImageRecipe.__post_init__(self)
        check_pooling(self.pooling, get_args(ImagePooling))

    def open(self, located: LocatedModel) -> OpenModel[ImageInput, ImageInput, Floats]:
        """
        Bind this recipe to a graph.

        raises  SettingError where the graph lacks the wanted output, ModelFilesError where
                preprocessor_config.json is missing or splits images into tiles
        """
        sessions = located.sessions()
        family = DenseImageFamily(
            decoding=Decoding.open(located, self, sessions, tiled=False),
            outputs=(output_name(self.output, sessions[0].outputs),),
            recipe=self,
            dim=located.model.dim,
            input_=next(iter(sessions[0].inputs)),
        )
        dim = located.model.dim
        what = f"A model of images should give vectors of shape (batch, {dim})"
        expected = Expected(what=what, width=dim, joined=True)
        if self.pooling == "cls":
            what = f"Pooling 'cls' expects the graph to give shape (batch, patches, {dim})"
            expected = Expected(what=what, width=dim)
        check_graph(
            located,
            sessions[0],
            family,
            expected,
            row=white_image(),
            of_one_size=family.decoding.preprocessing.gives_one_size,
        )
        embedder = OnnxEmbedder(family, sessions, budget=located.runtime.token_budget)
        return OpenModel(documents=embedder, queries=embedder)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseImageFamily(ImageFamily):
    """
    A dense image model in use.

    dim     length of a vector
    input_  name of the graph's input for pixels
    """

    recipe: DenseImage
    dim: int
    input_: str

    def pack(self, reading: Images, rows: Ints) -> Feeds:
        """
        Decode some images.

        returns  float32[batch, 3, height, width] under the name of the graph's first input
        """
        return {self.input_: self.pixels(reading, rows)}

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """
        Take the vectors, or the first patch's, and normalize.

        outputs  float of any shape that starts with [batch], as [batch, dim, 1, 1]
        returns  one float32[dim] for each row
        """
        del feeds
        [output] = outputs
        vectors = output.astype(np.float32, copy=False).reshape(len(output), -1)
        if self.recipe.pooling == "cls":
            vectors = vectors[:, : self.dim]
        return list(normalized(vectors) if self.recipe.normalize else vectors)
