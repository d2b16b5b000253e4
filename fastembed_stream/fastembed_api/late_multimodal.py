"""fastembed's class for late interaction over pages and questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from fastembed_stream.embedder import Embedder
from fastembed_stream.families.page_queries import PageQueries
from fastembed_stream.fastembed_api.drop_in import DropIn, counted, listed
from fastembed_stream.fastembed_api.image import images_of
from fastembed_stream.fastembed_api.names import ModelSource
from fastembed_stream.opened import Embeds
from fastembed_stream.recipes import LATE_MULTIMODAL, ColModernVbert, ColPali
from fastembed_stream.values import Floats, ImageInput

__all__ = ["LateInteractionMultimodalEmbedding"]


class LateInteractionMultimodalEmbedding(DropIn[ImageInput, str, Floats]):
    """
    A vector for each patch of images and for each token of texts.

    Beyond fastembed's arguments the constructor takes `upright` and `max_pixels`, the fields of
    `ColPali` and `ColModernVbert`.
    """

    _kind: ClassVar = LATE_MULTIMODAL

    def embed_image(
        self,
        images: ImageInput | Iterable[ImageInput],
        batch_size: int = 2,
        parallel: int | None = None,
    ) -> Iterator[Floats]:
        """
        Give the vectors of each image, in order, as they are ready.

        images      one image, or any iterable of them, read lazily: paths, bytes of files, open
                    files, base64 text, images of Pillow
        batch_size  images that are planned together
        parallel    accepted; lanes use all cores anyway
        yields      float32[n_tokens, dim], no padding among them
        raises      ImageError that names the first image that cannot be read, by its position in
                    `images`; those of the batches before it are answered first
        """
        del parallel
        return self._documents(images_of(images), batch_size)

    def embed_text(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """
        Give the vectors of each text, as queries, in order, as they are ready.

        yields  float32[n_tokens, dim], no padding among them
        """
        del parallel
        return self._queries(listed(documents), batch_size)

    @classmethod
    def add_custom_model(  # noqa: PLR0917  as in fastembed's other classes
        cls,
        model: str,
        recipe: ColPali | ColModernVbert,
        sources: ModelSource,
        dim: int,
        model_file: str = "model.onnx",
        description: str = "",
        license: str = "",  # noqa: A002  as in fastembed's other classes
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
    ) -> None:
        """
        Make a model of your own known by name, for this process; fastembed has no such method.

        recipe  markers, prompts and how pages are cut: `ColPali` or `ColModernVbert`
        raises  SettingError if the name is taken
        """
        cls._add(
            model,
            recipe,
            sources,
            dim=dim,
            model_file=model_file,
            description=description,
            license=license,
            size_in_gb=size_in_gb,
            additional_files=additional_files,
        )

    def token_count(
        self,
        texts: str | Iterable[str],
        batch_size: int = 1024,
        include_extension: bool = False,  # noqa: FBT001, FBT002  fastembed's signature
    ) -> int:
        """
        Count the tokens of texts, special tokens included, after truncation.

        include_extension  count also what the model puts around a query
        """
        queries = self._opened().queries
        extended = queries if include_extension else _bare(queries)
        return counted(extended, listed(texts), batch_size)


def _bare(queries: Embeds[str, Floats]) -> Embeds[str, Floats]:
    match queries:
        case Embedder(family=PageQueries() as family):
            return queries.with_family(family.bare())
        case _:
            return queries
