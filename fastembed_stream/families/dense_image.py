"""One vector for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.embedder import Embedder
from fastembed_stream.families.images import Decoding, ImageFamily, Images, white_image
from fastembed_stream.families.texts import output_name
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.opened import Opening, OpenModel
from fastembed_stream.pooling import normalized

if TYPE_CHECKING:
    from fastembed_stream.recipes import DenseImage
    from fastembed_stream.values import Feeds, Floats, ImageInput, Ints, Outputs

__all__ = ["DenseImageFamily", "open_dense_image"]


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


def open_dense_image(
    opening: Opening, recipe: DenseImage
) -> OpenModel[ImageInput, ImageInput, Floats]:
    """
    Bind a recipe to a graph.

    raises  SettingError where the graph lacks the wanted output, ModelFilesError where
            preprocessor_config.json is missing or splits images into tiles
    """
    sessions = opening.sessions()
    family = DenseImageFamily(
        decoding=Decoding.open(opening, recipe, sessions, tiled=False),
        outputs=(output_name(recipe.output, sessions[0].outputs),),
        recipe=recipe,
        dim=opening.model.dim,
        input_=next(iter(sessions[0].inputs)),
    )
    dim = opening.model.dim
    what = f"A model of images should give vectors of shape (batch, {dim})"
    expected = Expected(what=what, width=dim, joined=True)
    if recipe.pooling == "cls":
        what = f"Pooling 'cls' expects the graph to give shape (batch, patches, {dim})"
        expected = Expected(what=what, width=dim)
    check_graph(
        opening.model,
        sessions[0],
        family,
        expected,
        row=white_image(),
        of_one_size=family.decoding.preprocessing.gives_one_size,
    )
    embedder = Embedder(family, sessions, budget=opening.runtime.token_budget)
    return OpenModel(documents=embedder, queries=embedder)
